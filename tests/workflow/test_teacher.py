"""Where teachers come from, what a refused or changed command does to a folder, and the verbs on what it left."""

import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from ganshrink import nets
from ganshrink.data import DataConfig
from ganshrink.workflow.compress import compress, compress_recipe, train_recipe
from ganshrink.workflow.recipe import resolve
from ganshrink.workflow.verbs import measure_run
from tiny_recipe import tiny

pytestmark = pytest.mark.slow


@pytest.mark.exhaustive
def test_a_teacher_can_be_that_of_another_run_if_it_goes_the_same_way(tmp_path):
    train_recipe(resolve(tiny(tmp_path / "a")), progress=False)
    taken = {"weights": str(tmp_path / "a"), "max_steps": 0}
    compress_recipe(resolve(tiny(tmp_path / "b", teacher=taken)), progress=False)
    for name in "GD":
        of = {run: load_file(tmp_path / run / f"stages/teacher/{name}.safetensors") for run in "ab"}
        assert all(torch.equal(of["a"][key], of["b"][key]) for key in of["a"])
    with pytest.raises(ValueError, match="goes AtoB, this recipe BtoA"):
        compress_recipe(
            resolve(tiny(tmp_path / "c", teacher=taken, data={"direction": "BtoA"})), progress=False
        )
    with pytest.raises(FileNotFoundError, match="there is no run folder"):
        compress_recipe(resolve(tiny(tmp_path / "d", teacher={"weights": "no/run"})), progress=False)
    with pytest.raises(ValueError, match=r"does not fit: G: .*; check \[net\] and \[task\]"):
        compress_recipe(resolve(tiny(tmp_path / "e", teacher=taken, net={"ngf": 8})), progress=False)
    damaged = tmp_path / "a/stages/teacher/G.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match="is not what the stage wrote"):
        compress_recipe(resolve(tiny(tmp_path / "f", teacher=taken)), progress=False)


@pytest.mark.exhaustive
def test_a_training_can_go_on_from_another_run_s_teacher(tmp_path):
    first = train_recipe(resolve(tiny(tmp_path / "a")), progress=False)
    start = {"start": str(tmp_path / "a")}
    still = train_recipe(resolve(tiny(tmp_path / "b", teacher=start | {"max_steps": 0})), progress=False)
    moved = train_recipe(resolve(tiny(tmp_path / "c", teacher=start)), progress=False)
    states = [load_file(run["weights"]) for run in (first, still, moved)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    with pytest.raises(ValueError, match=r"teacher\.start is where a training begins"):
        resolve(tiny(tmp_path, teacher=start | {"weights": "other.safetensors"}))


@pytest.mark.exhaustive
def test_the_verbs_use_the_size_that_the_network_was_traced_with(tmp_path, monkeypatch):
    """An example of another size than the data: the exported file keeps it, and so do the times."""
    settings = {"counts": {"train": 4, "val": 2, "test": 2}, "size": 32}
    model = nets.build("resnet9", ngf=6, blocks=1)
    compress(
        model,
        torch.zeros(1, 3, 48, 48),
        DataConfig(**settings),
        {"name": "cat", "floor": 2},
        "macs=60%",
        {"name": "pix2pix", "ndf": 4},
        run=tmp_path,
        student={"max_steps": 1, "accelerator": "cpu"},
        latency={"enabled": False},
        progress=False,
    )
    run = tmp_path / "student.onnx"
    assert onnxruntime.InferenceSession(str(run)).get_inputs()[0].shape[2:] == [48, 48]
    with pytest.raises(ValueError, match="pass it uncut"):
        measure_run(tmp_path)
    code = "from ganshrink import nets\n\n\ndef make():\n    return nets.build('resnet9', ngf=6, blocks=1)\n"
    (tmp_path / "traced_at_48.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    rows = measure_run(tmp_path, seconds=0.2, net="traced_at_48:make")["rows"]
    assert {tuple(row["input"])[-2:] for row in rows} == {(48, 48)}
