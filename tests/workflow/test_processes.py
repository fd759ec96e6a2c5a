"""The same command in two processes, as torchrun starts it, against one process with a batch twice as large."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import read_recipe

# What needs the whole batch weighs much: batch norms in both nets, and kernel alignment before reconstruction.
RECIPE = """
budget = "macs=60%"
net = { name = "resnet9", ngf = 4, blocks = 1, norm = "batch" }
data = { size = 32, counts = { train = 8, val = 2, test = 2 } }
task = { name = "pix2pix", ndf = 4, d_norm = "batch", lr = 1e-3, lambda_recon = 1 }
method = { name = "cat", floor = 2, lambda_dist = 10 }
teacher = { max_steps = 3, log_every = 1, checkpoint_steps = 1, accelerator = "cpu" }
metrics = { names = ["psnr"] }
export = { onnx = false }
latency = { enabled = false }
"""
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "--no-python",
]
# What a busy machine does: torchrun's SIGTERM comes while a process still asks whether it is the first to speak.
BUSY = """
import time
from ganshrink.system import distributed as processes
first = processes.speaks_first
def speaks_first():
    time.sleep(0.5)
    return first()
processes.speaks_first = speaks_first
"""
# In one launch, since most of a launch is Python's imports.
COMMAND = """
from ganshrink.cli.main import main
for _ in range({times}):
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
"""


def launch(
    recipe: Path, folder: Path, *overrides: str, times: int = 1, command: list[str] | None = None
) -> subprocess.Popen[str]:
    command = command or [*TORCHRUN, sys.executable, "-c", BUSY + COMMAND.format(times=times)]
    words = ["compress", str(recipe), f"run={folder}", "teacher.batch_size=2", *overrides]
    loopback = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=loopback
    )


def losses(folder: Path, stage: str) -> list[dict[str, float]]:
    lines = (folder / "stages" / stage / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    return [json.loads(line)["losses"] for line in lines]


# As torchrun sets them up, from one that has imported everything: most of a launch is Python's imports.
PAIR = """
import os, socket, sys
from ganshrink.workflow import compress, finish
with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
other = os.fork()
os.environ.update(RANK=str(int(other == 0)), LOCAL_RANK=str(int(other == 0)))
from ganshrink.cli.main import main
try:
    main()
except SystemExit as stop:
    if other == 0:
        raise
    sys.exit(stop.code or os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


def same_as_one(two: Path, one: Path, recipe: Path) -> None:
    """What two processes made is what one makes of twice the batch, and the student's file is complete."""
    compress_recipe(read_recipe(recipe, [f"run={one}", "teacher.batch_size=4"]), progress=False)
    assert (two / "plan.json").read_text() == (one / "plan.json").read_text()
    for stage in ("teacher", "distill"):
        for ours, theirs in zip(losses(two, stage), losses(one, stage), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
    student, kept = load_file(two / "student.safetensors"), load_file(two / "stages/distill/G.safetensors")
    assert student.keys() == kept.keys() and all(torch.equal(student[name], kept[name]) for name in kept)


@pytest.mark.slow
def test_two_processes_make_what_one_makes_of_twice_the_batch(tmp_path):
    recipe, two = tmp_path / "recipe.toml", tmp_path / "two"
    recipe.write_text(RECIPE)
    process = launch(recipe, two, command=[sys.executable, "-c", PAIR])
    told, trouble = process.communicate(timeout=300)
    assert process.returncode == 0, trouble
    assert told.count("student: ") == 1  # not once a process
    same_as_one(two, tmp_path / "one", recipe)


@pytest.mark.exhaustive
def test_torchrun_goes_on_where_a_process_was_killed(tmp_path):
    recipe, two = tmp_path / "recipe.toml", tmp_path / "two"
    recipe.write_text(RECIPE)
    process = launch(recipe, two)
    while not (two / "stages/teacher/checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    leader = int((two / ".lock").read_text().split()[0])
    os.kill(leader, signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode != 0 and not (two / "student.safetensors").exists()
    assert (
        sum(line.startswith(("error: ", "terminated; ")) for line in told.splitlines()) == 1
    )  # not one each

    process = launch(recipe, two)
    _, trouble = process.communicate(timeout=300)
    assert process.returncode == 0, trouble
    same_as_one(two, tmp_path / "one", recipe)


@pytest.mark.exhaustive
def test_two_processes_agree_on_what_a_device_takes(tmp_path):
    recipe, folder = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    process = launch(recipe, folder, "budget=latency=100%@cpu", "latency.runtime=torch", times=2)
    told, trouble = process.communicate(timeout=300)
    assert process.returncode == 0, trouble
    assert told.count("student: ") == 2  # once a command
    again = (folder / "recipe.toml").stat().st_mtime_ns  # written when the second command began to work
    assert all(path.stat().st_mtime_ns < again for path in folder.glob("stages/*/*"))
    budget = json.loads((folder / "cost.json").read_text())["budget"]
    looked_at = tomllib.loads((folder / "device-cpu.toml").read_text())
    assert budget["resolved"]["latency"] == budget["timing"]["original_ms"] == looked_at["original"]
    assert budget["timing"]["measured_ms"] > 0
