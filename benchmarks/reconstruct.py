"""How near to its teacher is a cut network, as it is and reconstructed? PSNR on photos that nothing was fitted to.

    python benchmarks/reconstruct.py G.pth PHOTOS HELD_OUT [--budgets 10% 25% 50%] [-o results/reconstruct.json]

G.pth is anyone's checkpoint that is recognised, PHOTOS and HELD_OUT are folders of training and of other photos. One
network is measured by one command, which leaves other networks' rows in the file. Seconds are processor time: clocks say
little on a busy machine.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import ganshrink
from ganshrink.data.pictures import read_image, to_tensor
from ganshrink.pruning import Channels, extract, reconstruct
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.effect import output_effect, pivoted
from ganshrink.pruning.scores import evenly, norm_scale


def over_mean(scores: Tensor, channels: Channels) -> Tensor:
    """Scores over the mean of each group's that are finite: one threshold then spares no group for being large."""
    out = scores.clone()
    for group in channels.groups:
        own = scores[group.atoms]
        if group.frozen is None:
            out[group.atoms] = own / own.mean().clamp_min(torch.finfo(own.dtype).tiny)
    return out


def pivots(model: nn.Module, channels: Channels, shown: Tensor) -> Tensor:
    effects = output_effect(model, channels, shown.split(1)).sqrt()
    return pivoted(model, channels, shown, over_mean(effects, channels))


RANKINGS: dict[str, Callable[..., Tensor]] = {
    "norm scale": lambda model, channels, shown: norm_scale(model, channels),
    "uniform": lambda model, channels, shown: evenly(channels),
    "effect": lambda model, channels, shown: over_mean(
        output_effect(model, channels, shown.split(1)), channels
    ),
    "pivots": pivots,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--budgets", nargs="+", default=["10%", "25%", "50%"])
    parser.add_argument("--rankings", nargs="+", default=list(RANKINGS), choices=RANKINGS)
    parser.add_argument("--floor", type=int, default=16)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("-o", "--out", type=Path, default=Path("results/reconstruct.json"))
    return parser.parse_args()


def photos(folder: Path, count: int, size: int) -> Tensor:
    """(B, 3, size, size) in [-1, 1], spread over a folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    files = [files[i * len(files) // count] for i in range(min(count, len(files)))]
    return torch.stack([to_tensor(read_image(file).resize((size, size))) for file in files])


def psnr(made: Tensor, wanted: Tensor) -> float:
    """The mean over images in [-1, 1], in dB."""
    errors = (made - wanted).square().flatten(1).mean(1)
    return float((10 * torch.log10(4 / errors)).mean())


@torch.no_grad()
def main(given: argparse.Namespace) -> None:
    teacher = ganshrink.load(given.network).float()
    shown, held_out = (
        photos(folder, count, given.size)
        for folder, count in ((given.photos, given.images), (given.held_out, 16))
    )
    wanted = teacher(held_out)
    channels = ganshrink.trace(teacher, shown[:1])
    untouched = psnr(held_out, wanted)
    rows = []
    for ranking in given.rankings:
        scores = RANKINGS[ranking](teacher, channels, shown)
        for budget in given.budgets:
            plan = bisect_threshold(channels, scores, f"macs={budget}", floor=given.floor)
            student = extract(teacher, channels, plan)
            cut = psnr(student(held_out), wanted)
            begun, on_clock = time.process_time(), time.monotonic()
            report = reconstruct(student, teacher, shown)
            row = {
                "ranking": ranking,
                "macs": channels.cost(plan).macs / channels.cost().macs,
                "cut_db": cut,
                "reconstructed_db": psnr(student(held_out), wanted),
                "refitted": sum(layer.left is None for layer in report.layers),
                "layers": len(report.layers),
                "cpu_seconds": time.process_time() - begun,
                "seconds": time.monotonic() - on_clock,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
            rows.append({key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()})
            print(json.dumps(rows[-1]), flush=True)
    found = json.loads(given.out.read_text()) if given.out.is_file() else {}
    found[given.network.stem] = {
        "size": given.size,
        "images": len(shown),
        "held_out": len(held_out),
        "floor": given.floor,
        "threads": torch.get_num_threads(),
        "untouched_db": round(untouched, 4),
        "rows": rows,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(arguments())
