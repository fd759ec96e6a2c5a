"""A student's file is data: it never chooses code to run."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from torch import nn, zeros

from ganshrink import nets
from ganshrink.nets.resnet import ResNet
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.predict import predict
from ganshrink.workflow.recipe import resolve
from ganshrink.workflow.saved_networks import NetworkSpec, load_network, save_network
from ganshrink.workflow.verbs import evaluate_run


def test_a_file_that_names_code_is_loaded_only_into_a_network_that_the_user_gives(tmp_path, monkeypatch):
    (tmp_path / "code_named_by_a_file.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    file, name = tmp_path / "student.safetensors", "code_named_by_a_file:make"
    network = nn.Conv2d(3, 3, 1)
    save_network(file, network, NetworkSpec(net={"name": name}, example=[[1, 3, 4, 4]]))
    with pytest.raises(ValueError, match=f"student.safetensors was made from {name}, .* --net {name}"):
        load_network(file)
    with pytest.raises(ValueError, match="it ran"):
        nets.build(name)  # so that file is code
    loaded, _ = load_network(file, nn.Conv2d(3, 3, 1))
    x = zeros(1, 3, 4, 4) + 0.5
    assert loaded(x).equal(network(x))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_network_of_the_user_s_own_goes_the_whole_way_by_its_name(tmp_path, monkeypatch):
    """A recipe that names MODULE:NAME with options, then the verbs on its run, which take the name again."""
    (tmp_path / "own_generator.py").write_text(
        "from ganshrink.nets.resnet import ResNet\n\n\ndef make(width):\n    return ResNet(ngf=width, blocks=1)\n"
    )
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("train", "test"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{index}.png")
    save_file(ResNet(ngf=6, blocks=1).state_dict(), tmp_path / "own.safetensors")
    recipe = {
        "run": "run",
        "budget": "params=40%",
        "net": {"name": "own_generator:make", "width": 6},
        "data": {"name": "photos", "photos": str(tmp_path / "photos/{split}"), "size": 16},
        "task": "image2image",
        "method": {"name": "cat", "floor": 2},
        "teacher": {"weights": str(tmp_path / "own.safetensors")},
        "student": {"max_steps": 1, "accelerator": "cpu"},
        "metrics": {"names": ["psnr_teacher"]},
        "export": {"onnx": False},
        "latency": {"enabled": False},
    }
    made = compress_recipe(resolve(recipe), progress=False)
    assert made.cost["student"]["params"] <= 0.4 * made.cost["teacher"]["params"]
    with pytest.raises(ValueError, match="--net own_generator:make"):
        evaluate_run(Path("run"))
    again = evaluate_run(Path("run"), net="own_generator:make")
    assert again["student"] == made.metrics["student"]
    [picture] = predict(
        Path("run"), tmp_path / "photos/test/0.png", tmp_path / "out.png", original="own_generator:make"
    )
    with Image.open(picture) as out:
        assert out.size == (16, 16)
