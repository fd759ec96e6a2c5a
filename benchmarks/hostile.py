"""Every hostile file through everything that reads pictures: opening a data set, a step of training, `ganshrink predict`.

`python benchmarks/hostile.py` prints what came of each file of hostile_files.py and of every format in many sizes and cut
short, then counts. It fails if one outcome is not the expected one. About ten minutes: predict starts once for each.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hostile_files import CASES, FINE, RGB, Case, changed, picture, saved

from ganshrink import nets
from ganshrink.cli.main import main as ganshrink
from ganshrink.data import Batches, DataConfig, InputSpec, open_dataset, prepare, read_image, to_uint8
from ganshrink.data.pictures import printable
from ganshrink.workflow.saved_networks import NetworkSpec, load_network, save_network

SIZE = 32
SECONDS = 120  # more is a hang
LOSSLESS: dict[str, dict] = {
    "BMP": {},
    "PNG": {},
    "PPM": {},
    "TIFF": {},
    "TIFF ": {"compression": "tiff_lzw"},
    "TIFF  ": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"lossless": True},
}
LOSSY: dict[str, dict] = {"JPEG": FINE, "JPEG ": {**FINE, "progressive": True}}
SIZES = [(1, 1), (1, 2), (2, 1), (7, 5), (1, 4096), (255, 257), (1500, 2000)]
CUTS = [0.02, 0.2, 0.5, 0.8, 0.95]


def more_cases() -> list[Case]:
    """Every format in every size, and cut short."""
    cases = []
    for number, (format, options) in enumerate((LOSSLESS | LOSSY).items()):
        kind = format.strip()
        about = f"{kind} {options.get('compression', '')}{'progressive' if 'progressive' in options else ''}".strip()
        for height, width in SIZES:
            pixels = picture(height, width)
            tolerance = 4 if format in LOSSY else 0
            file = f"{number}-{height}x{width}.png"
            write = saved(pixels, kind, **options)
            cases.append(Case(f"{about}, {height} x {width}", file, write, pixels, tolerance=tolerance))
        for part in CUTS:
            write = changed(saved(picture(60, 80), kind, **options), _first(part))
            file = f"{number}-cut{part}.png"
            cases.append(Case(f"{about}, {part:.0%} of it", file, write, printable(file)))
    return cases


def _first(part: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * part)]


def make_student(folder: Path) -> Path:
    torch.manual_seed(0)
    options = {"name": "incres9", "ngf": 8, "blocks": 1}
    spec = NetworkSpec(net=options, example=[[1, 3, SIZE, SIZE]], input=InputSpec(size=(SIZE, SIZE)))
    save_network(folder / "student.safetensors", nets.build(**options), spec)
    return folder / "student.safetensors"


def opened(case: Case, folder: Path) -> str:
    """What comes of the file as both sides of a data set of pairs, and of a step of training on it."""
    config = DataConfig(name="paired", a=str(folder), b=str(folder), size=SIZE)
    try:
        dataset = open_dataset(config)
    except (ValueError, OSError) as error:
        wanted = "no images in" if (folder / case.file).is_dir() else case.rgb
        expected = isinstance(wanted, str) and wanted in str(error) and str(error).isprintable()
        return "one line" if expected else f"NOT EXPECTED: {error}"
    if isinstance(case.rgb, str):
        return "NOT EXPECTED: accepted"
    pixels = np.asarray(read_image(folder / case.file))
    if pixels.shape != case.rgb.shape or _difference(pixels, case.rgb) > case.tolerance:
        return "NOT EXPECTED: another picture"
    dataset.fingerprint()
    batch = Batches(dataset, batch_size=1).at(0)
    network = nets.build("incres9", ngf=8, blocks=1)
    optimizer = torch.optim.Adam(network.parameters())
    loss = (network(batch["input"]) - batch["target"]).abs().mean()
    loss.backward()
    optimizer.step()
    return "right picture" if torch.isfinite(loss) else "NOT EXPECTED: the loss is not finite"


def labelled(case: Case, folder: Path) -> str:
    """What comes of the file as the label map of a plain photo."""
    if case.ids is None:
        return "not tried"
    ids = None if isinstance(case.ids, str) else case.ids
    photos = folder.with_name("photos")
    photos.mkdir()
    shape = RGB.shape[:2] if ids is None else ids.shape
    saved(picture(*shape), "PNG")(photos / f"{Path(case.file).stem}.png")
    folders = {"photos": str(photos), "labels": str(folder)}
    size = shape if min(shape) >= 8 else SIZE
    config = DataConfig(name="labelled", **folders, num_classes=1024, void=1023, size=size)
    try:
        sample = open_dataset(config).sample(0, None)
    except (ValueError, OSError) as error:
        expected = ids is None and str(case.ids) in str(error) and str(error).isprintable()
        return "one line" if expected else f"NOT EXPECTED: {error}"
    if ids is None:
        return "NOT EXPECTED: accepted"
    known = np.where((ids == 255) | (ids > 1023), 1023, ids)
    right = min(shape) < 8 or np.array_equal(sample["labels"].numpy(), known)
    return "right picture" if right else "NOT EXPECTED: other ids"


def predict(student: Path, source: Path, target: Path) -> tuple[int, list[str]]:
    """Exit code and lines of a `ganshrink predict` in a process of its own: a copy of this one, which has torch loaded."""
    with tempfile.TemporaryFile() as messages:
        child = os.fork()
        if child == 0:
            os.dup2(messages.fileno(), 1)
            os.dup2(messages.fileno(), 2)
            signal.alarm(SECONDS)
            sys.argv = ["ganshrink", "predict", "--", *map(str, (student, source, target))]
            try:
                ganshrink()
            except SystemExit as stop:
                sys.stdout.flush()
                os._exit(stop.code if isinstance(stop.code, int) else 1)
            except BaseException:
                traceback.print_exc()
                os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        messages.seek(0)
        return code, messages.read().decode().splitlines()


def predicted(case: Case, folder: Path, student: Path, network: torch.nn.Module) -> str:
    """What predict makes of the file alone."""
    source, target = folder / case.file, folder.with_name("out.png")
    code, lines = predict(student, source, target)
    if len(lines) != 1:
        return f"NOT EXPECTED: {code} {lines}"
    if isinstance(case.rgb, str):
        wanted = "no images in" if source.is_dir() else case.rgb
        expected = code == 1 and lines[0].startswith("error: ") and wanted in lines[0] and not target.exists()
        return "one line" if expected else f"NOT EXPECTED: {code} {lines}"
    if code or lines != [f"1 image -> {target}"]:
        return f"NOT EXPECTED: {code} {lines}"
    return compared(case, source, target, network)


def compared(case: Case, source: Path, target: Path, network: torch.nn.Module) -> str:
    """Whether a written picture is what the student makes of the pixels that the file should hold."""
    pixels = np.asarray(read_image(source)) if case.tolerance else case.rgb  # `opened` compares these two
    spec = InputSpec(size=(SIZE, SIZE))
    with torch.no_grad():
        wanted = to_uint8(network(prepare(np.ascontiguousarray(pixels), spec)[None])[0])
    right = np.array_equal(np.asarray(read_image(target)), wanted)
    return "right picture" if right else "NOT EXPECTED: another picture"


def predicted_together(cases: list[Case], folder: Path, student: Path, network: torch.nn.Module) -> list[str]:
    """What predict makes of all files in one folder: one process, one line, every sound picture."""
    for case in cases:
        case.write(folder / case.file)
    target = folder.with_name("out")
    command = [sys.executable, "-m", "ganshrink", "predict", student, folder, target]
    done = subprocess.run(command, capture_output=True, text=True)
    code, lines = done.returncode, done.stderr.splitlines()
    unusable = sum(isinstance(case.rgb, str) for case in cases)
    if code != 1 or len(lines) != 1 or f"{unusable} of {len(cases)} images could not be used" not in lines[0]:
        return [f"NOT EXPECTED: {lines}"] * len(cases)
    found = []
    for case in cases:
        written = target / case.file
        if isinstance(case.rgb, str):
            found.append("NOT EXPECTED: written" if written.exists() else "one line")
        else:
            found.append(compared(case, folder / case.file, written, network))
    return found


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean difference in levels, in parts: the largest pictures have 240 million numbers."""
    parts = zip(np.array_split(ours, 64), np.array_split(theirs, 64), strict=True)
    return sum(float(np.abs(a.astype(np.int16) - b).sum(dtype=np.float64)) for a, b in parts) / ours.size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose names hold this")
    only = parser.parse_args().only
    torch.set_num_threads(1)  # a copy of a process has one thread
    counts: dict[str, Counter[str]] = {"data set": Counter(), "label map": Counter(), "predict": Counter()}
    with tempfile.TemporaryDirectory() as name:
        student = make_student(Path(name))
        network, _ = load_network(student)
        cases = [case for case in CASES if only in case.name]
        if os.geteuid() == 0:
            cases = [case for case in cases if case.name != "unreadable"]  # root may read everything
        more = [case for case in more_cases() if only in case.name]
        together = Path(name) / "together"
        (together / "in").mkdir(parents=True)
        made = predicted_together(more, together / "in", student, network) if more else []
        print(f"{'file':36} {'data set':16} {'label map':16} predict")
        for number, case in enumerate([*cases, *more]):
            folder = Path(name) / str(number) / "in"
            folder.mkdir(parents=True)
            case.write(folder / case.file)
            signal.alarm(SECONDS)  # ends a hang, loudly
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="PIL")  # as the command line does
                found = [opened(case, folder), labelled(case, folder)]
            signal.alarm(0)
            alone = number < len(cases)
            found.append(predicted(case, folder, student, network) if alone else made[number - len(cases)])
            print(f"{printable(case.name):36} {found[0]:16} {found[1]:16} {found[2]}", flush=True)
            for counter, outcome in zip(counts.values(), found, strict=True):
                counter[outcome.split(":")[0]] += 1
    print()
    for stage, counter in counts.items():
        print(f"{stage:10} {', '.join(f'{count} {outcome}' for outcome, count in counter.most_common())}")
    sys.exit(any("NOT EXPECTED" in counter for counter in counts.values()))


if __name__ == "__main__":
    main()
