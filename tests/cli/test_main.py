"""The command line as a user meets it: the whole road on the quick recipe, then every verb on what it left."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from ganshrink import nets
from ganshrink.cli.terminal import start_logging
from ganshrink.exporters.runtime import has_openvino

GANSHRINK = [sys.executable, "-m", "ganshrink"]
SMALL = 'net={name="resnet9",ngf=8,blocks=1}'
SHORT = [SMALL, "method.search.floor=2", "teacher.max_steps=8", "latency.seconds=0.1"]  # of 96 steps
pytestmark = pytest.mark.slow


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*GANSHRINK, *map(str, words)], capture_output=True, text=True, timeout=900)
    assert done.returncode == code, done.stderr[-2000:]
    return done


def read(path: Path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "quick"
    done = run("compress", "recipes/cat/quick.toml", f"run={folder}", "scratch=true", *SHORT)
    assert str(folder / "report.html") in done.stdout
    return folder


@pytest.mark.exhaustive
def test_a_run_leaves_every_file(finished):
    names = "recipe.toml env.json plan.json cost.json metrics.json latency.json parity.json"
    files = [*names.split(), "student.safetensors", "student.onnx", "report.html", "samples/samples.json"]
    assert [name for name in files if not (finished / name).is_file()] == []


@pytest.mark.exhaustive
def test_the_student_meets_the_budget_and_the_file_says_what_it_costs(finished):
    cost = read(finished / "cost.json")
    assert cost["budget"]["given"] == "macs=25%"
    assert cost["budget"]["resolved"]["macs"] == cost["teacher"]["macs"]["exact"] // 4
    assert 0 < cost["student"]["macs"]["exact"] <= cost["budget"]["resolved"]["macs"]
    with safe_open(finished / "student.safetensors", "pt") as file:
        sizes = [file.get_tensor(name).numel() for name in file.keys()]  # noqa: SIM118 - a safetensors file is no mapping
    assert cost["student"]["params"] == sum(sizes)  # instance norms keep no buffers
    assert cost["scratch"] == cost["student"]


@pytest.mark.exhaustive
def test_metrics_carry_their_protocol(finished):
    metrics = read(finished / "metrics.json")
    assert list(metrics) == ["identity", "mean", "untrained", "teacher", "student", "scratch"]
    assert set(metrics["student"]) == {"psnr", "ssim", "psnr_teacher", "ssim_teacher"}
    for value in metrics["student"].values():
        assert value["protocol"]["split"] == "test" and value["protocol"]["images"] == 16


@pytest.mark.exhaustive
def test_parity_and_latency_are_recorded(finished):
    parity = read(finished / "parity.json")["student.onnx"]
    assert parity["max_abs_diff"] < 0.5 and parity["psnr_db"] > 60
    latency = read(finished / "latency.json")
    runtimes = ["torch", "onnxruntime"] + ["openvino"] * has_openvino()
    assert {(row["network"], row["runtime"]) for row in latency["rows"]} == {
        (network, runtime) for network in ("teacher", "student") for runtime in runtimes
    }


@pytest.mark.exhaustive
def test_the_same_command_again_trains_nothing(finished, command, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in folder.glob("stages/*/*")}
    weights = (folder / "student.safetensors").read_bytes()
    without = ("latency.enabled=false", "export.onnx=false")  # what they cost no stage knows
    command("compress", "recipes/cat/quick.toml", f"run={folder}", "scratch=true", *SHORT, *without)
    assert {p: p.stat().st_mtime_ns for p in folder.glob("stages/*/*")} == before
    assert (folder / "student.safetensors").read_bytes() == weights


@pytest.mark.exhaustive
def test_predict_writes_what_the_sample_shows(finished, command, tmp_path):
    out, _ = command("predict", finished, finished / "samples" / "000_input.png", tmp_path / "out.png")
    assert "1 image" in out
    ours, theirs = (
        np.asarray(Image.open(p), int)
        for p in (tmp_path / "out.png", finished / "samples" / "000_student.png")
    )
    assert abs(ours - theirs).max() <= 1
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(2):
        Image.open(finished / "samples" / "001_input.png").save(folder / f"picture {i}.png")
    out, _ = command("predict", finished / "student.safetensors", folder, tmp_path / "many")
    assert "2 images" in out
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == ["picture 0.png", "picture 1.png"]


@pytest.mark.exhaustive
def test_evaluate_export_measure_and_report_work_on_the_folder(finished, command):
    scored = json.loads(command("evaluate", finished, "metrics.names=['psnr']", "--json")[0])
    assert set(scored["student"]) == {"psnr"}
    parity = json.loads(command("export", finished, "--image-io", "uint8", "--json")[0])
    assert parity["student.onnx"]["image_io"] == "uint8"  # --dynamic-size is in the README's commands
    latency = json.loads(command("measure", finished, "--threads", 1, "--seconds", 1, "--json")[0])
    assert latency["rows"][0]["threads"] == 1
    assert "report.html" in command("report", finished)[0]


@pytest.mark.exhaustive
def test_profile_prints_the_published_integers(command):
    found = json.loads(command("profile", "resnet9", "--input", "3x64x64", "--json")[0])
    assert found["params"] == 11_378_179
    assert found["macs"] == {"exact": 49_551_507_456 // 16, "paper": 56_799_264_768 // 16}  # of 256 x 256
    small = json.loads(command("profile", "resnet6", "ngf=8", "norm=batch", "--json")[0])
    assert small["params"] < found["params"] / 3


@pytest.mark.exhaustive
def test_profile_takes_a_network_of_ones_own_with_two_inputs(tmp_path, command, monkeypatch):
    (tmp_path / "mine_for_test.py").write_text(
        "from torch import nn\n"
        "class Add(nn.Module):\n"
        "    def __init__(self, width=4):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(3, width, 1), nn.Conv2d(1, width, 1)\n"
        "        self.c = nn.Conv2d(width, 3, 1)\n"
        "    def forward(self, x, y):\n"
        "        return self.c((self.a(x) + self.b(y)).relu())\n"
    )
    monkeypatch.chdir(tmp_path)  # which is not in the import path, as of an installed console script
    words = ["profile", "mine_for_test:Add", "width=8", "--input", "3x8x6", "--input", "1x8x6", "--json"]
    found = json.loads(command(*words)[0])
    assert found["inputs"] == [[3, 8, 6], [1, 8, 6]]
    assert found["macs"]["exact"] == 8 * 6 * 8 * (3 + 1 + 3) and found["prunable"] == 1


def test_listings_and_help(command):
    assert set(json.loads(command("nets", "--json")[0])) >= {"resnet9", "unet256", "incres9", "patchgan"}
    assert "cat" in json.loads(command("methods", "--json")[0])
    verbs = [
        "train",
        "compress",
        "evaluate",
        "export",
        "measure",
        "profile",
        "predict",
        "report",
        "nets",
        "methods",
        "doctor",
    ]
    text = command("--help")[0]
    assert [verb for verb in verbs if verb not in text] == []
    assert "lambda_dist" in command("compress", "recipes/cat/quick.toml", "--explain")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["compress", "recipes/cat/quick.toml", "data.sise=3"],
            "data.sise: unknown key; did you mean 'size'?",
        ),
        (["compress", "recipes/cat/none.toml"], "there is no recipe recipes/cat/none.toml"),
        (["compress", "recipes/cat/quick.toml", SMALL, "budget=macs=0.001%"], "the smallest reachable"),
        (["compress", "recipes/cat/quick.toml", "budget=mcas=10%"], "mcas"),
        (
            ["compress", "recipes/cat/incres9-camvid.toml", "data.photos=/none/{split}"],
            "/none/train does not exist",
        ),
        (
            ["train", "recipes/cat/quick.toml", "teacher.weights=none.safetensors"],
            "teacher.weights names it",
        ),
        (["profile", "resnet8"], "unknown network 'resnet8'; did you mean 'resnet9'"),
        (["profile", "resnet9", "--input", "256x256"], "--input must be CxHxW"),
        (["evaluate", "recipes"], "recipes holds no recipe.toml"),
        (["predict", "none.safetensors", "a.png", "b.png"], "there is no weights file none.safetensors"),
        (["report", "recipes"], "recipes is no run directory"),
    ],
)
def test_an_error_is_one_clear_line(words, message, command, tmp_path):
    if words[0] in ("compress", "train"):
        words = [*words, f"run={tmp_path / 'run'}", "teacher.max_steps=1"]
    [line] = command(*words, code=1)[1].splitlines()
    assert line.startswith("error: ") and message in line


def test_a_launch_that_fails_says_one_line_and_no_more():
    [line] = run("report", "recipes", code=1).stderr.splitlines()
    assert line.startswith("error: ")


def test_debug_shows_the_trace(command):
    with pytest.raises(ValueError, match="unknown network 'resnet8'"):
        command("profile", "resnet8", "--debug")


@pytest.mark.parametrize(("option", "besides"), [("--help", set()), ("--version", {"rich"})])
def test_help_waits_for_nothing_heavy(option, besides):
    code = f"""
import sys
from ganshrink.cli.main import main
sys.argv = ["ganshrink", {option!r}]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True)
    heavy = {
        "torch",
        "numpy",
        "pydantic",
        "PIL",
        "safetensors",
        "matplotlib",
        "jinja2",
        "onnx",
        "onnxruntime",
    }
    assert done.returncode == 0 and {"typer"} == set(done.stderr.split()) & {*heavy, *besides, "typer"}


def test_a_checkpoint_and_pictures_stand_in_place_of_a_recipe(command, tmp_path):
    file, photos = tmp_path / "latest_net_G.pth", tmp_path / "photos"
    photos.mkdir()
    torch.save(nets.build("resnet6", ngf=2, affine=True).state_dict(), file)
    words = ("--budget", "macs=30%", "data.size=32", "net.norm=instance")
    out, err = command("compress", file, photos, *words, "--explain")
    found = " ".join(out.split())
    for row in (
        "name resnet6 recipe",
        "ngf 2 recipe",
        "size 32 command line",
        "budget macs=30% command line",
    ):
        assert row in found
    assert f"weights {file}"[:30] in found and "resnet6 with" in err
    _, err = command("compress", file, *words, code=1)
    assert "is a checkpoint: give the folder of the pictures" in err
    _, err = command("import", photos, code=1)
    assert "holds no *_net_G*.pth" in err and err.count("\n") == 1
    (tmp_path / "net.h5").write_bytes(b"\x08\x80\xff")
    _, err = command("compress", tmp_path / "net.h5", photos, code=1)
    assert "is no recipe, a text in TOML, nor a checkpoint" in err


def test_a_line_of_the_log_is_not_said_twice_in_a_row(command):
    start_logging(quiet=False)
    log = logging.getLogger("ganshrink.data")
    for line in ("dark", "dark", "torn", "dark"):
        log.warning(line)
    assert command("--version")[1].split() == ["dark", "torn", "dark"]
