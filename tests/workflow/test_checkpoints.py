"""A user's checkpoint without a recipe: imported, made small, opened from Python; what is in it is told where that fails."""

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import ganshrink
from ganshrink import nets
from ganshrink.workflow.checkpoints import import_checkpoint, open_checkpoint, recipe_for, reversed_colours
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import read_recipe
from ganshrink.workflow.saved_networks import load_network

SHORT = ["data.size=32", "student.max_steps=1", "latency.enabled=false", "export.onnx=false"]
X = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def theirs(seed: int = 0, **options) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A trained generator, and its tensors under pytorch-CycleGAN-and-pix2pix's names."""
    torch.manual_seed(seed)
    network = nets.build("resnet9", **{"ngf": 8, "blocks": 2, **options}).eval()
    state = {}
    for name, tensor in network.state_dict().items():
        part, at, rest = name.split(".", 2)
        start = {"down": 0, "blocks": 10, "up": 12}[part]
        state[f"model.{start + int(at)}.{rest.replace('body', 'conv_block')}"] = tensor
    return network, state


def judge() -> dict[str, torch.Tensor]:
    return nets.build("patchgan", ndf=4, in_channels=3).state_dict()


@pytest.fixture
def photos(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{i}.png")
    return tmp_path / "photos"


@torch.no_grad()
def test_import_writes_weights_and_a_recipe_that_compress_takes(photos, tmp_path):
    network, state = theirs(affine=True)
    torch.save(state, tmp_path / "latest_net_G.pth")
    found = import_checkpoint(tmp_path / "latest_net_G.pth", tmp_path / "mine")
    assert found["net"] == {"name": "resnet9", "affine": True, "ngf": 8, "blocks": 2}
    assert found["said"][0].endswith("pytorch-CycleGAN-and-pix2pix")
    torch.testing.assert_close(ganshrink.load(found["weights"])(X), network(X))
    recipe = read_recipe(found["recipe"], [f"data.photos={photos}"])
    assert str(recipe.teacher.weights) == str(tmp_path / "mine/generator.safetensors")
    again = recipe_for(found["weights"], photos)[0]  # the written file is a checkpoint too
    assert again.net == recipe.net


@pytest.mark.slow
def test_compress_of_a_checkpoint_writes_the_recipe_for_the_user(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network, state = theirs(affine=True)
    torch.save({"epoch": 5, "G_A": state, "G_B": theirs(1)[1], "D_A": judge()}, tmp_path / "cycle.pth")
    words = [*SHORT, "budget=macs=50%", "method.search.floor=2"]
    recipe, _ = recipe_for("cycle.pth:G_A", "photos", words)
    done = compress_recipe(recipe, progress=False)
    assert done.path == Path("runs/cycle-G_A")
    with torch.no_grad():
        torch.testing.assert_close(ganshrink.load(done.path / "teacher.safetensors")(X), network(X))
    written = read_recipe(done.path / "recipe.toml")
    assert written.net.name == "resnet9" and str(written.teacher.weights).endswith("cycle.pth:G_A")


@torch.no_grad()
def test_python_opens_a_checkpoint(tmp_path):
    network, state = theirs()
    torch.save({"state_dict": {f"netG.{k}": t for k, t in state.items()}}, tmp_path / "last.ckpt")
    save_file(state, tmp_path / "net.safetensors")
    for name in ("last.ckpt", "net.safetensors"):
        torch.testing.assert_close(ganshrink.load(tmp_path / name)(X), network(X))


def test_a_folder_of_checkpoints(tmp_path):
    torch.save(judge(), tmp_path / "latest_net_D_A.pth")
    with pytest.raises(ValueError, match=r"no \*_net_G\*.pth.*only: latest_net_D_A.pth"):
        import_checkpoint(tmp_path, tmp_path / "out")
    for epoch in ("5", "latest"):
        torch.save(theirs()[1], tmp_path / f"{epoch}_net_G_A.pth")
    assert import_checkpoint(tmp_path, tmp_path / "out")["net"]["ngf"] == 8
    torch.save(theirs(1)[1], tmp_path / "latest_net_G_B.pth")
    with pytest.raises(
        ValueError, match="several generators: latest_net_G_A.pth, latest_net_G_B.pth; name one"
    ):
        import_checkpoint(tmp_path, tmp_path / "out")


def test_what_is_in_a_file_is_told(tmp_path):
    file = tmp_path / "net.pth"
    state = theirs()[1]
    for content, message in (
        ({"G_A": state, "G_B": state}, r"several generators: G_A \(resnet9 with ngf = 8, .*choose one: net.pth:G_A"),
        ({"netD": judge()}, r"holds a discriminator \(patchgan with .*in_channels = 3.*give the file of the generator"),
        (judge(), r"holds a discriminator \(patchgan"),
        ({"a": nn.Linear(4, 4).state_dict(), "b": nn.Linear(9, 9).state_dict()}, r"a \(20 numbers\), b .* --as resnet9"),
        ({"G": {"to_rgb.modulation.weight": torch.zeros(4, 4)}}, "it looks like StyleGAN2, .*--as MODULE:NAME"),
        (nn.Sequential(nn.Conv2d(3, 3, 3)).state_dict(), "no network of this package; name its network: --as"),
    ):  # fmt: skip
        torch.save(content, file)
        with pytest.raises(ValueError, match=message) as error:
            import_checkpoint(file, tmp_path / "out")
        assert "\n" not in str(error.value) and str(file) in str(error.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="is a checkpoint: give the folder of the pictures"):
        recipe_for(file, None)


def test_a_network_that_the_user_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "def make(width=4):\n    return nn.Sequential(nn.Conv2d(3, width, 3), nn.Conv2d(width, 3, 3))\n"
    (tmp_path / "my_own_net.py").write_text(f"from torch import nn\n\n\n{code}")
    state = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 3, 3)).state_dict()
    torch.save({"model": {f"net.{name}": tensor for name, tensor in state.items()}}, "mine.pth")
    found = import_checkpoint("mine.pth", net="my_own_net:make", overrides=["width=6"])
    assert found["net"] == {"name": "my_own_net:make", "width": 6} and found["folder"] == "imported/mine"
    raw = tomllib.loads(Path(found["recipe"]).read_text())
    assert raw["net"] == found["net"]
    with pytest.raises(ValueError, match=r"'net.0.weight'|in order|\(6, 3, 3, 3\) in the file"):
        import_checkpoint("mine.pth", net="my_own_net:make")


@torch.no_grad()
def test_options_go_over_what_is_recognised(tmp_path):
    network, state = theirs(norm="batch")
    torch.save(state, tmp_path / "net.pth")
    plain = import_checkpoint(tmp_path / "net.pth", tmp_path / "plain")
    assert any("add norm=instance affine=true" in line for line in plain["said"])
    options = ["norm=instance", "affine=true"]
    found = import_checkpoint(tmp_path / "net.pth", tmp_path / "out", overrides=options)
    torch.testing.assert_close(ganshrink.load(found["weights"])(X), network.train()(X), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet9", {"ngf": 4, "blocks": 1}),
        ("unet256", {"ngf": 4, "downs": 5}),
        ("rrdb", {"ngf": 4, "blocks": 1}),
    ],
)
@torch.no_grad()
def test_bgr_becomes_rgb(name, options):
    torch.manual_seed(0)
    network = nets.build(name, **options).eval()
    wanted = network(X.flip(1)).flip(1)
    network.load_state_dict(reversed_colours(network.state_dict()))
    torch.testing.assert_close(network(X), wanted)
    with pytest.raises(ValueError, match="BGR is for generators of 3 channels, this one has 1"):
        reversed_colours(nets.build(name, **options, in_channels=1).state_dict())


def test_a_cyclegan_that_others_trained_and_published():
    """vintagify's release: its names are nobody else's, and all of its tensors find their place."""
    root = os.environ.get("GANSHRINK_WEIGHTS")
    if not root:
        pytest.skip("GANSHRINK_WEIGHTS is not set: no vintagify_G_A2B_epoch33.pth")
    found = open_checkpoint(Path(root) / "vintagify_G_A2B_epoch33.pth")
    assert found.net == {"name": "resnet9", "affine": True}
    given = torch.load(found.source, map_location="cpu", weights_only=True)
    assert sum(tensor.numel() for tensor in given.values()) == 11_388_675
    pairs = zip(given.values(), found.state.values(), strict=True)
    assert all(torch.equal(theirs, ours) for theirs, ours in pairs)
    assert "model.1 is down.1" in found.said[1]


def test_grey_pictures_and_values_of_the_network_go_into_the_recipe(photos, tmp_path):
    file = tmp_path / "grey.pth"
    torch.save(nets.build("resnet6", ngf=2, in_channels=1, out_channels=2).state_dict(), file)
    recipe, _ = recipe_for(file, photos, ["net.range=[0, 1]", "net.norm=instance"])
    assert (recipe.data.in_channels, recipe.data.out_channels) == (1, 2)
    assert recipe.net.range == (0, 1) and recipe.net.options["norm"] == "instance"


@torch.no_grad()
def test_a_super_resolution_network_is_imported_with_its_values_of_0_to_1(tmp_path):
    torch.manual_seed(0)
    network = nets.build("srvgg", ngf=4, convs=2, scale=2)
    torch.save({"params": network.state_dict()}, tmp_path / "realesr.pth")
    found = import_checkpoint(tmp_path / "realesr.pth", tmp_path / "out")
    torch.testing.assert_close(ganshrink.load(found["weights"])(X), network(X))
    converting, _ = load_network(found["weights"])
    torch.testing.assert_close(converting(X), network(X / 2 + 0.5) * 2 - 1)
