"""Does a run survive kill -9? Kills a small run at random moments and inside its writes, checks every file, resumes.

`python benchmarks/kills.py --kills 60 --seed 0`: after each kill every file in the folder must be whole; the folder goes
on being resumed and killed, and when it is finished it must be, bit for bit, what an uninterrupted run makes. Exits with
1 if not. A warm process forks the runs, since starting Python and torch takes longer than they do.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is there: a process with threads must not fork

import argparse
import contextlib
import io
import json
import logging
import random
import re
import select
import signal
import sys
import tempfile
import time
import tomllib
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from matplotlib.backends import backend_svg  # noqa: F401 - imported once, here; ONNX Runtime would start a thread
from onnx import numpy_helper
from PIL import Image
from safetensors.torch import load_file

from ganshrink import nets
from ganshrink.workflow import compress
from ganshrink.workflow.recipe import read_recipe

QUICK = Path(__file__).parents[1] / "recipes/cat/quick.toml"
SMALL = [
    "net.ngf=6",
    "net.blocks=1",
    "task.ndf=4",
    "method.floor=2",
    "metrics.limit=4",
    "latency.enabled=false",
]
for who in ("teacher", "student"):
    SMALL += [f"{who}.max_steps=10", f"{who}.checkpoint_steps=1", f"{who}.accelerator=cpu"]

# What a run writes, in its order. A phase begins when the last file of the one before is about to be in its place.
TRAINING = ("stamp.json", "events.jsonl", "checkpoint.pt", "G.safetensors", "D.safetensors", "done.json")
PHASES = {
    "start": ["recipe.toml", "env.json"],
    "teacher": [f"stages/teacher/{file}" for file in TRAINING],
    "search": [f"stages/search/{file}" for file in ("stamp.json", "plan.json", "done.json")],
    "distill": [f"stages/distill/{file}" for file in TRAINING],
    "plan": ["plan.json", "teacher.safetensors", "student.safetensors", "cost.json"],
    "evaluate": ["metrics.json"],
    "samples": ["samples/000_input.png", "samples/007_student.png", "samples/samples.json"],
    "export": ["student.onnx", "parity.json"],
    "report": ["report.html"],
}
SAME = ("plan.json", "cost.json", "metrics.json", "teacher.safetensors", "student.safetensors")
AT_RANDOM, OPENED, HALF_WRITTEN, RENAMING = KINDS = "at random", "opened", "half written", "before rename"
# The two moments of a write at which a process can be stopped to the instruction, and the kinds that wait for them.
AT = {(OPENED, OPENED), (OPENED, HALF_WRITTEN), (RENAMING, RENAMING)}
TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}(\.\w+)?")


@dataclass(frozen=True, order=True)
class Target:
    """When to kill: in a phase (by number) at random, or when a file is written for the `skip + 1`st time."""

    phase: int
    place: int
    kind: str
    file: str = ""
    skip: int = 0


@dataclass
class Tally:
    """What was seen; `kills` by (phase, kind)."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    inside: int = 0  # kills that left a temporary behind: those inside of a write
    missed: int = 0  # runs that ended before their moment came
    resumed: int = 0
    torn: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--short", action="store_true", help="less data and training, and no ONNX: for the tests"
    )
    options = parser.parse_args()
    if options.short:
        SMALL.extend(["export.onnx=false", "data.counts={train=8,val=2,test=8}"])
        SMALL.extend(f"{who}.max_steps=5" for who in ("teacher", "student"))
        del PHASES["export"]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_often(Path(folder), options.kills, random.Random(options.seed))
    print(f"{'phase':10}" + "".join(f"{kind:>15}" for kind in KINDS))
    for phase in PHASES:
        print(f"{phase:10}" + "".join(f"{tally.kills[phase, kind]:15}" for kind in KINDS))
    print(f"\n{tally.kills.total()} kills, seed {options.seed}, {time.monotonic() - started:.0f} s")
    print(f"{tally.inside} left a temporary behind, {tally.missed} runs ended before their moment came")
    print("\n".join([f"torn files: {len(tally.torn)}", *tally.torn]))
    same = tally.resumed - len(tally.different)
    print(f"resumed to the end: {tally.resumed}, of these as an uninterrupted run: {same}")
    print("\n".join(tally.different), end="")
    sys.exit(bool(tally.torn or tally.different))


def kill_often(folder: Path, kills: int, rng: random.Random, *, together: int = 6) -> Tally:
    """Kill runs so many times, each folder up to `together` times before it may finish."""
    if "export" in PHASES:
        warm_up()
    torch.set_num_threads(1)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: this process must not fork"
    tally, durations = Tally(), dict.fromkeys(PHASES, 0.0)
    whole = folder / "whole"
    assert watch(whole, durations=durations)[0] == 0, "the uninterrupted run failed"
    while tally.kills.total() < kills:
        broken = folder / f"killed-{tally.resumed}"
        for target in targets(rng, min(together, kills - tally.kills.total())):
            if not ahead(broken, target):
                continue
            ended, phase = watch(broken, target, durations=durations, delay=rng.random())
            if ended != -signal.SIGKILL:
                assert ended == 0, f"the run in {broken} failed"
                tally.missed += 1
                break
            tally.kills[phase, target.kind] += 1
            tally.inside += any(TEMPORARY.fullmatch(path.name) for path in broken.rglob(".*"))
            tally.torn += torn(broken)
        tally.resumed += 1
        assert watch(broken)[0] == 0, f"the run in {broken} cannot be resumed"
        found = [*torn(broken), *differing(whole, broken)]
        tally.different += [f"{broken.name}: {', '.join(found)}"] if found else []
    return tally


def warm_up() -> None:
    """An export, for all that it imports; without the comparison, whose runtime starts threads."""
    logging.getLogger("torch.onnx").setLevel(logging.CRITICAL)
    network, example = nets.build("incres9", ngf=6, blocks=1).eval(), (torch.zeros(1, 3, 32, 32),)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(network, example, dynamo=True, verbose=False)


def targets(rng: random.Random, count: int) -> list[Target]:
    """Moments in the order of a run: every other one at random, the others inside of writes."""
    drawn, names = [], list(PHASES)
    for index in range(count):
        phase = rng.randrange(len(names))
        files = PHASES[names[phase]]
        place = rng.randrange(len(files))
        if index % 2:
            drawn.append(Target(phase, place, AT_RANDOM))
        else:
            skip = rng.randrange(3) if files[place].endswith("checkpoint.pt") else 0
            drawn.append(Target(phase, place, rng.choice(KINDS[1:]), files[place], skip))
    return sorted(drawn)


def ahead(folder: Path, target: Target) -> bool:
    """Whether the moment can still come in a run that goes on in `folder`."""
    phase, file = list(PHASES)[target.phase], target.file
    if (folder / "stages" / phase / "done.json").exists():
        return False
    if file.endswith("stamp.json"):
        return not (folder / file).exists()
    return (folder / file).exists() if file.endswith("events.jsonl") else True  # rewritten by a resume alone


def watch(
    folder: Path, target: Target | None = None, *, durations: dict[str, float] | None = None, delay: float = 0
) -> tuple[int, str]:
    """Run, or go on, in a process of its own, and kill it at its target.

    Args:
        durations: seconds of each phase: read for a kill at random, filled by a run without a target.
        delay: how far into the phase or the write to kill, from 0 to 1.

    Returns:
        exit code, or minus the signal; and the phase that the run was in.
    """
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        run(folder, writer, target)
    os.close(writer)
    names = list(PHASES)
    phase, entered, deadline = names[0], time.monotonic(), None
    lines = [""]  # nothing said yet
    while lines:
        for kind, _, file in (line.rpartition(" ") for line in lines):
            if kind == RENAMING and file == PHASES[phase][-1]:
                if target is None and durations is not None:
                    durations[phase] = time.monotonic() - entered
                left = [name for name in names if not (folder / "stages" / name / "done.json").exists()]
                phase = next((name for name in left if names.index(name) > names.index(phase)), phase)
                entered = time.monotonic()
            if target and durations and target.kind == AT_RANDOM and names[target.phase] == phase:
                deadline = entered + delay * durations[phase]
            elif target and target.kind == HALF_WRITTEN and (kind, file) == (OPENED, target.file):
                deadline = time.monotonic() + 0.003 * delay
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([reader], [], [], wait)[0]:
            os.kill(process, signal.SIGKILL)
            break
        lines = (
            os.read(reader, 65536).decode().splitlines()
        )  # whole ones: short writes to a pipe are not split
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), phase


def run(folder: Path, writer: int, target: Target | None) -> None:
    """The run, in the forked process. It says what it writes, and kills itself where the moment has to be exact."""
    passed = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal passed
        if event not in ("open", "os.rename") or not isinstance(args[0], str | Path):
            return
        path = Path(args[1] if event == "os.rename" else args[0])
        kind, name = RENAMING, path.name
        if event == "open":
            match = TEMPORARY.fullmatch(name)
            if match is None or "w" not in (args[1] or ""):
                return
            kind, name = OPENED, match[1]
        if not path.is_relative_to(folder):
            return
        file = str(path.with_name(name).relative_to(folder))
        if target and file == target.file and (kind, target.kind) in AT:
            passed += 1
            if passed > target.skip and kind == target.kind:
                os.kill(os.getpid(), signal.SIGKILL)
            if passed <= target.skip:
                return
        os.write(writer, f"{kind} {file}\n".encode())

    sys.addaudithook(hook)
    try:
        compress.compress_recipe(read_recipe(QUICK, [*SMALL, f"run={folder}"]), progress=False)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def torn(folder: Path) -> Iterator[str]:
    """The files that are not whole; temporaries are nobody's."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            try:
                READERS[path.suffix](path)
            except Exception as error:  # whatever the format's reader says
                yield f"{path}: {type(error).__name__}: {error}"


def read_page(path: Path) -> None:
    assert path.read_text().rstrip().endswith("</html>")


READERS = {
    ".json": lambda path: json.loads(path.read_text()),
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
    ".toml": lambda path: tomllib.loads(path.read_text()),
    ".safetensors": load_file,
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".png": lambda path: np.asarray(Image.open(path)),
    ".onnx": lambda path: onnx.checker.check_model(onnx.load(path), full_check=True),
    ".html": read_page,
}


def differing(one: Path, other: Path) -> Iterator[str]:
    """Results that are not the same to the bit, and files that are not in both."""
    files = [{str(path.relative_to(run)) for path in run.rglob("*")} for run in (one, other)]
    yield from sorted(files[0] ^ files[1])
    yield from (name for name in SAME if (one / name).read_bytes() != (other / name).read_bytes())
    if "export" not in PHASES:
        return
    weights = [
        {
            w.name: numpy_helper.to_array(w).tobytes()
            for w in onnx.load(run / "student.onnx").graph.initializer
        }
        for run in (one, other)
    ]
    if weights[0] != weights[1]:
        yield "student.onnx"


if __name__ == "__main__":
    main()
