"""Checkpoints are whole or not there."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import run
from torch import nn

from ganshrink.training.checkpoint import load_checkpoint, save_checkpoint

CONTENT = {"step": 3, "nets": {"G": {"weight": torch.arange(6.0)}}, "scaler": None}


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CONTENT, key="abc")
    loaded = load_checkpoint(path, key="abc")
    assert loaded["step"] == 3 and loaded["scaler"] is None
    assert torch.equal(loaded["nets"]["G"]["weight"], torch.arange(6.0))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_there_may_be_none(tmp_path):
    assert load_checkpoint(tmp_path / "checkpoint.pt", key="") is None


def test_another_key_is_refused_and_named(tmp_path):
    run(tmp_path, max_steps=1)
    with pytest.raises(
        ValueError, match=r"checkpoint.pt belongs to other settings or data \('', not 'new'\): delete it"
    ):
        load_checkpoint(tmp_path / "checkpoint.pt", key="new")


@pytest.mark.parametrize("damage", ["truncated", "text", "foreign", "empty"])
def test_a_damaged_or_foreign_file_is_named(tmp_path, damage):
    path = tmp_path / "checkpoint.pt"
    run(tmp_path, max_steps=1)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        torch.save({"model": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"checkpoint.pt is .*no checkpoint.*: delete it to start") as caught:
        run(tmp_path, max_steps=1)
    assert "\n" not in str(caught.value)


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, zipped):
    path, witness = tmp_path / "checkpoint.pt", tmp_path / "witness"
    torch.save({"nets": Malicious(witness)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="checkpoint.pt is damaged or no checkpoint") as caught:
        load_checkpoint(path, key="")
    assert "\n" not in str(caught.value) and not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists()  # it would have


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "checkpoint.pt").mkdir()
    with pytest.raises(OSError, match="cannot read the checkpoint .*: Is a directory"):
        load_checkpoint(tmp_path / "checkpoint.pt", key="")


@pytest.mark.parametrize(
    "change", [{"nets": None}, {"nets": {}}, {"optimizers": []}, {"step": "many"}, {"state": [1]}]
)
def test_a_checkpoint_of_another_shape_is_named(tmp_path, change):
    run(tmp_path, max_steps=1)
    path = tmp_path / "checkpoint.pt"
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(
        ValueError, match=r"checkpoint.pt does not fit these networks \(.*\): delete it"
    ) as caught:
        run(tmp_path, max_steps=1)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_architecture_is_named(tmp_path):
    run(tmp_path, max_steps=1)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    content["nets"]["G"] = nn.Conv2d(3, 3, 1).state_dict()
    torch.save(content, path)
    with pytest.raises(ValueError, match="does not fit these networks"):
        run(tmp_path, max_steps=1)


def test_state_that_could_not_be_read_back_is_refused_when_saving(tmp_path):
    with pytest.raises(TypeError, match="state.pool.1 is a ndarray"):
        save_checkpoint(tmp_path / "c.pt", {"state": {"pool": [1, np.zeros(2)]}}, key="")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    """A limit on the size of files stands in for the disk."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CONTENT, key="")
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(
            OSError, match="cannot write .*checkpoint.pt: File too large; the one from before is untouched"
        ) as caught:
            save_checkpoint(path, {"nets": torch.zeros(1_000_000)}, key="")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_run_that_cannot_save_stops_and_keeps_its_last_checkpoint(tmp_path):
    script = (
        "import resource, sys; from pathlib import Path; from tiny_training import run\n"
        "full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "run(Path(sys.argv[1]), checkpoint_steps=2, break_at=2, breaking=full)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert re.match("OSError: cannot write .*checkpoint.pt: File too large;", done.stderr.splitlines()[-1])
    assert load_checkpoint(tmp_path / "checkpoint.pt", key="")["step"] == 2
