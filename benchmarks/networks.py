"""Published families of networks through trace, cut, count and export, beside Torch-Pruning; prints Markdown.

    python benchmarks/networks.py [--results FILE] [--only NAME ...] [--parts PART ...] [--limit SECONDS]

Nothing is downloaded: the networks are small ones with random weights (tests/graph/families.py). `--results` keeps a JSON
line for each part of a network that is done; run again, it goes on with the others. A limit, in seconds of processor
time, holds for each.
"""

import argparse
import copy
import json
import logging
import platform
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "graph"))
from families import FAMILIES, Family

from ganshrink.exporters import export_int8, export_onnx
from ganshrink.exporters.int8 import ParityError
from ganshrink.graph import trace
from ganshrink.pruning import Channels, Plan, extract, zeroed
from ganshrink.quant import QuantConfig, calibrate, deploy

Entry = dict[str, Any]
ALLOWED = 1e-8  # relative to the output's largest number, in float64
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
OTHERS = {torch.ops.aten.bmm, torch.ops.aten.baddbmm}  # products of activations: in no budget


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path)
    parser.add_argument("--only", nargs="*", choices=FAMILIES)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--limit", type=int, default=60)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    names = args.only or list(FAMILIES)
    entries: dict[str, Entry] = {name: {"name": name} for name in names}
    if args.results and args.results.exists():
        for line in map(json.loads, args.results.read_text().splitlines()):
            entries.setdefault(line["name"], {}).update(line)
    for part in args.parts:
        for name in names:
            entry = entries[name]
            if f"{part}_s" in entry or (part in ("onnx", "int8") and "refused" in entry):
                continue
            found = measured(part, FAMILIES[name], args.limit)
            entry |= found
            if args.results:
                with args.results.open("a") as file:
                    print(json.dumps({"name": name} | found), file=file)
            print(json.dumps({"name": name} | found), file=sys.stderr)
    print(page([entries[name] for name in names]))


def measured(part: str, family: Family, limit: int) -> Entry:
    entry: Entry = {}
    started = time.process_time()
    failed: Any = None
    try:
        with within(limit):
            PARTS[part](family, entry)
    except TimeoutError:
        failed = f"over {limit} s"
    except Exception as error:
        failed = first_line(error)
    if failed is not None:
        entry |= {"refused": failed} if part == "cut" and "least" not in entry else {}
        entry |= (
            {part: {"refused": failed}}
            if part in ("onnx", "int8")
            else {"failed": failed}
            if part == "cut"
            else {}
        )
        entry |= (
            {"torch_pruning": "late" if failed.startswith("over") else "error"}
            if part == "torch_pruning"
            else {}
        )
        entry |= {f"{part}_error": failed}
    return entry | {f"{part}_s": round(time.process_time() - started, 1)}


def cut(family: Family, entry: Entry) -> None:
    network, inputs = made(family), family.inputs()
    started = time.process_time()
    channels = trace(network, *inputs)
    entry["trace_s"] = time.process_time() - started
    least = channels.full_widths()
    for i, group in enumerate(channels.groups):
        if group.frozen is None:
            least[i] = 0 if group.removable else group.least
    entry["least"] = channels.cost_at(least).macs / channels.cost().macs
    entry["stays"] = staying(channels)
    plans = [Plan.random(channels, 0.5, seed=seed) for seed in (0, 1)]
    plans.append(narrowest(channels, least))
    students = [extract(network, channels, plan) for plan in plans]
    fresh = family.inputs(2, seed=5)
    apart = [
        difference(student, zeroed(network, channels, plan), fresh)
        for student, plan in zip(students, plans, strict=True)
    ]
    entry |= {"apart": max(apart), "equal": max(apart) < ALLOWED}
    entry["macs"] = [channels.cost(plan).macs for plan in plans]
    entry["counted"] = [counted(student, inputs) for student in students]


def halved(family: Family) -> nn.Module:
    network = made(family)
    channels = trace(network, *family.inputs())
    return OneImage(extract(network, channels, Plan.random(channels, 0.5)), family.image).eval()


class OneImage(nn.Module):
    """A file holds one output."""

    def __init__(self, network: nn.Module, image: int) -> None:
        super().__init__()
        self.network, self.image = network, image

    def forward(self, *inputs: Tensor) -> Tensor:
        outputs = self.network(*inputs)
        return outputs if isinstance(outputs, Tensor) else outputs[self.image]


def made(family: Family) -> nn.Module:
    """Random weights; scales, shifts and statistics random too, so that a forgotten one shows."""
    torch.manual_seed(0)
    network = family.make().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if sum(size > 1 for size in parameter.shape) < 2:
                parameter.add_(torch.rand(parameter.shape) - 0.3)
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape) * 0.5 + 0.5 * name.endswith("var"))
    return network


def narrowest(channels: Channels, widths: np.ndarray) -> Plan:
    keep = torch.zeros(channels.num_atoms, dtype=torch.bool)
    for group, width in zip(channels.groups, widths, strict=True):
        keep[group.atoms[: int(width)]] = True
    return Plan(keep)


def staying(channels: Channels) -> list[str]:
    """Why what is neither input nor output stays, the widest first."""
    reasons: Counter[str] = Counter()
    for group in channels.groups:
        if group.frozen and not group.frozen.startswith(("it is an output", "it meets the model's")):
            reasons[shortened(group.frozen)] += len(group)
    return [reason for reason, _ in reasons.most_common(2)]


def flat(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple, dict)):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from flat(part)


def difference(one: nn.Module, other: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """The largest, of the output's size, in float64."""
    doubles = [t.double() if t.is_floating_point() else t for t in inputs]
    with torch.no_grad():
        outputs = [list(flat(copy.deepcopy(net).double().eval()(*doubles))) for net in (one, other)]
    pairs = zip(*outputs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs)


def counted(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of layers, by the operators that run."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(network).eval()(*inputs)
    return sum(n for op, n in counter.get_flop_counts()["Global"].items() if op not in OTHERS) // 2


def onnx(family: Family, entry: Entry) -> None:
    """With free sizes, else with one; with any number of images, else with one."""
    student, inputs = halved(family), family.inputs()
    attempts: list[dict[str, bool]] = [{}, {"dynamic_batch": False}]
    if any(t.ndim == 4 for t in inputs):
        attempts.insert(0, {"dynamic_size": True})
    reason = "" if len(attempts) == 3 else "no input is a picture"
    with tempfile.TemporaryDirectory() as folder:
        for options in attempts:
            try:
                made = export_onnx(student, inputs, Path(folder, "student.onnx"), **options)
            except ValueError as error:
                reason = reason or first_line(error)
                continue
            entry["onnx"] = {key: made[key] for key in ("psnr_db", "sizes", "size_multiple") if key in made}
            entry["onnx"] |= {} if options.get("dynamic_size") else {"fixed": reason}
            return
    entry["onnx"] = {"refused": reason}


def int8(family: Family, entry: Entry) -> None:
    student, batches = halved(family), [family.inputs(seed=seed) for seed in range(2)]
    config = QuantConfig(activations="observed", levels="code", per_channel=True)
    try:
        deployed, report = deploy(student, config, calibrate(student, config, batches), batches)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "int8.onnx")
            made = export_int8(deployed, batches[0], file, inputs=batches, dynamic_batch=False)
    except ParityError as error:
        entry["int8"] = {"refused" if has_vnni() else "saturates": first_line(error)}
    except ValueError as error:
        entry["int8"] = {"refused": first_line(error)}
    else:
        entry["int8"] = {"psnr_db": made["psnr_db"], "float_db": report["psnr_db"]["deployed"]}


def has_vnni() -> bool:
    """Without these instructions ONNX Runtime adds products of bytes in 16 bits, which overflow."""
    about = Path("/proc/cpuinfo")
    return about.exists() and "vnni" in about.read_text()


def torch_pruning(family: Family, entry: Entry) -> None:
    """Half of all channels at random by Torch-Pruning, but of the layers that make the output; compared with the whole
    network in which nothing reads the channels that went."""
    import torch_pruning as tp

    network, inputs = made(family), family.inputs()
    with torch.no_grad():
        network(*inputs)  # some make their weights in it
    reference, before = copy.deepcopy(network), counted(network, inputs)
    names = {module: name for name, module in network.named_modules()}
    kept = {
        name: list(range(module.weight.shape[0 if isinstance(module, nn.ConvTranspose2d) else 1]))
        for module, name in names.items()
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))
        and getattr(module, "groups", 1) == 1
    }
    torch.manual_seed(0)
    pruner = tp.pruner.BasePruner(
        network,
        inputs,
        tp.importance.RandomImportance(),
        pruning_ratio=0.5,
        ignored_layers=outputs_of(network),
    )
    for group in pruner.step(interactive=True):
        for dependency, indices in group:
            module = dependency.target.module
            reads = not pruner.DG.is_out_channel_pruning_fn(dependency.handler)
            if reads and names.get(module) in kept:
                gone = set(indices)
                kept[names[module]] = [c for i, c in enumerate(kept[names[module]]) if i not in gone]
        group.prune()
    try:
        with torch.no_grad():
            network(*inputs)
        after = counted(network, inputs)
    except Exception as error:
        entry |= {"torch_pruning": "broken", "torch_pruning_error": first_line(error)}
        return
    with torch.no_grad():
        for name, channels in kept.items():
            layer = reference.get_submodule(name)
            read = torch.zeros_like(layer.weight)
            axis = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
            layer.weight.mul_(read.index_fill(axis, torch.tensor(channels, dtype=torch.long), 1))
    fresh = family.inputs(2, seed=5)
    try:
        same = difference(network, reference, fresh) < ALLOWED
    except Exception as error:
        entry |= {"torch_pruning": "broken", "torch_pruning_error": first_line(error)}
        return
    entry["torch_pruning"] = "cuts nothing" if after == before else "equal" if same else "differs"
    entry["torch_pruning_share"] = after / before


def outputs_of(network: nn.Module) -> list[nn.Module]:
    """The last layers, which Torch-Pruning must be told not to cut: of those that make three channels or fewer, all."""
    layers = [m for m in network.modules() if isinstance(m, LAYERS) and hasattr(m, "weight")]
    few = [m for m in layers if m.weight.shape[isinstance(m, nn.ConvTranspose2d)] <= 3]
    return [*few, layers[-1]]


PARTS: dict[str, Callable[[Family, Entry], None]] = {
    "cut": cut,
    "torch_pruning": torch_pruning,
    "onnx": onnx,
    "int8": int8,
}


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Of processor time."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def first_line(error: Exception) -> str:
    return shortened((str(error) or type(error).__name__).strip().splitlines()[0])


def shortened(text: str) -> str:
    for folder in (Path(__file__).resolve().parents[1], Path(torch.__file__).parents[1]):
        text = text.replace(f"{folder}/", "")
    return text.replace("tests/graph/", "")


def page(entries: list[Entry]) -> str:
    lines = [*about(), "", *summary(entries), "", *table(entries), ""]
    lines += listed(
        "What is refused", [(e, e["refused"]) for e in entries if "refused" in e], "Nothing is refused."
    )
    wide = [
        (e, "; ".join(e["stays"]) or "inputs and outputs alone") for e in entries if e.get("least", 0) > 0.1
    ]
    lines += listed("What stays where it is more than 10 %", wide, "Nothing.")
    if not any("onnx" in e or "int8" in e for e in entries):
        return "\n".join(lines).rstrip()
    fixed = [(e, reason) for e in entries if (reason := e.get("onnx", {}).get("fixed"))]
    lines += listed("Why a file has one size", fixed, "None has.")
    refused = [
        (e, f"{kind}: {reason}")
        for e in entries
        for kind, key in (("ONNX", "onnx"), ("INT8", "int8"))
        if (reason := e.get(key, {}).get("refused"))
    ]
    lines += listed("What is not exported", refused, "Everything is.")
    return "\n".join(lines).rstrip()


def about() -> list[str]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    parts = ["torch", "onnx", "onnxruntime", "torch-pruning"]
    versions = ", ".join(f"{part} {version(part)}" for part in parts)
    vnni = "with" if has_vnni() else "without"
    return wrapped(
        f"Commit {commit}, Python {platform.python_version()}, {versions}; one thread of a CPU {vnni} VNNI."
    )


def summary(entries: list[Entry]) -> list[str]:
    traced = [e for e in entries if "least" in e]
    compared = [e for e in traced if "equal" in e]
    wrong = [e["name"] for e in compared if not e["equal"]]
    miscounted = [e["name"] for e in compared if e["macs"] != e["counted"]]
    low = sum(e["least"] < 0.1 for e in traced)
    theirs = Counter(e.get("torch_pruning", "not run") for e in entries)
    worst = max((e["apart"] for e in compared), default=0.0)
    said = ", ".join(f"{count} {kind}" for kind, count in theirs.most_common())
    return wrapped(
        f"**Of {len(entries)}: {len(traced)} traced, {low} below 10 % of their multiply-accumulates, "
        f"{len(wrong)} of {len(compared)} compared wrong** ({', '.join(wrong) or f'worst {worst:.0e}'}), "
        f"{len(miscounted)} counted otherwise than in closed form"
        f"{': ' * bool(miscounted)}{', '.join(miscounted)}. Torch-Pruning: {said}."
    )


def table(entries: list[Entry]) -> list[str]:
    lines = ["| network | trace | least | cut | MACs | ONNX | INT8 | Torch-Pruning |"]
    lines += ["| --- | ---: | ---: | --- | --- | --- | --- | --- |"]
    for e in entries:
        if "least" not in e:
            cells = ["refused", "", "", "", "", ""]
        else:
            cut = "–" if "equal" not in e else "equal" if e["equal"] else f"**off {e['apart']:.0e}**"
            macs = "–" if "macs" not in e else "equal" if e["macs"] == e["counted"] else "**other**"
            cells = [f"{e['trace_s']:.1f} s", f"{e['least']:.1%}".replace("%", " %"), cut, macs]
            cells += [onnx_cell(e.get("onnx")), int8_cell(e.get("int8"))]
        lines.append("| " + " | ".join([e["name"], *cells, e.get("torch_pruning", "–")]) + " |")
    return lines


def onnx_cell(entry: Entry | None) -> str:
    if entry is None:
        return "–"
    if "refused" in entry:
        return "refused"
    if "fixed" in entry:
        return "one size"
    multiple = entry["size_multiple"]
    return f"{len(entry['sizes'])} sizes" + (f", of {multiple}" if multiple > 1 else "")


def int8_cell(entry: Entry | None) -> str:
    if entry is None:
        return "–"
    return "not here" if "saturates" in entry else "refused" if "refused" in entry else "yes"


def listed(title: str, reasons: list[tuple[Entry, str]], nothing: str) -> list[str]:
    if not reasons:
        return [f"## {title}", "", nothing, ""]
    lines = [line for e, reason in reasons for line in wrapped(f"- **{e['name']}**: {escaped(reason)}", "  ")]
    return [f"## {title}", "", *lines, ""]


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("[", "\\[").replace("<", "\\<")


def wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()
