"""What the command line offers beside its verbs: its version, completion in a shell, and `doctor`."""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
import torch.nn.functional as F
from typer.testing import CliRunner

from ganshrink import __version__
from ganshrink.cli.main import app
from ganshrink.workflow import doctor

GANSHRINK = [sys.executable, "-m", "ganshrink"]


def launch(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [*GANSHRINK, *words], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_version():
    assert launch("--version") == f"ganshrink {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("ganshrink comp", {"compare", "compress"}), ("ganshrink export --dyn", {"--dynamic-size"})],
)
def test_bash_completes_verbs_and_options(typed, offered):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    assert set(launch(_GANSHRINK_COMPLETE="complete_bash", **words).split()) == offered


def test_bash_takes_the_script_that_completes():
    script = launch(_GANSHRINK_COMPLETE="source_bash")
    assert "complete -o default -F _ganshrink_completion ganshrink" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_doctor_knows_the_extras_of_the_package():
    declared = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    del declared["dev"]
    modules = {
        name: [re.split(r"[\[<>=!]", package)[0].replace("-", "_") for package in packages]
        for name, packages in declared.items()
    }
    assert {name: list(known) for name, known in doctor.EXTRAS.items()} == modules


def test_a_missing_extra_is_told_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", {"made_up": ("json", "no_such_module")})
    monkeypatch.setenv("GANSHRINK_DATA", "/no/such/folder")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    lines = dict(line.split("  ", 1) for line in done.output.splitlines())
    assert "no_such_module is missing" in lines["extra made_up"]
    assert lines["extra made_up"].endswith('pip install "ganshrink[made_up]"')
    assert lines["ganshrink"].strip() == __version__
    assert lines["GANSHRINK_DATA"].strip() == "/no/such/folder, which is no folder"
    assert lines["self-test"].strip().startswith("passed")


def test_a_fault_of_the_package_is_told_by_its_kind(monkeypatch, command):
    """What is wrong with what a user gave is a line of its own; anything else names its kind, and `--debug` the place."""

    def fails(**options):
        raise KeyError("macs")

    monkeypatch.setattr(doctor, "examine", fails)
    assert command("doctor", code=1) == ("", "error: KeyError: 'macs' (--debug shows where)\n")


def test_doctor_fails_where_torch_computes_something_else(monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", {})
    conv2d = F.conv2d
    monkeypatch.setattr(
        F, "conv2d", lambda x, w: conv2d(x, w) * (1 + 1e-3 * (len(w) == 8))
    )  # half of 16 channels
    done = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(done.output)["self_test"]
    assert done.exit_code == 1 and not found["passed"]
    assert re.fullmatch(r"a cut network is off by 0\.00\d+", found["problem"])
    assert found["max_abs_diff"]["a convolution"] < 1e-4 and found["max_abs_diff"]["a gradient"] < 1e-4


def test_doctor_says_what_could_not_be_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    found = doctor.self_test()
    assert not found["passed"] and found["problem"].startswith("FileNotFoundError: ")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_full_self_test_cuts_and_exports():
    found = doctor.self_test(full=True)
    assert found["passed"] and found["problem"] is None
    assert max(found["max_abs_diff"].values()) < 1e-4 and "an extracted student" in found["max_abs_diff"]
    assert 0 < found["macs"]["after"] <= found["macs"]["before"] / 2
    assert found["onnx"]["levels_of_255"] < 0.5
