"""CartoonGAN against its description, written out on the released tensors."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ganshrink import nets

FILE = "cartoongan_hayao_fp16.safetensors"


def random_release(ngf: int) -> dict[str, Tensor]:
    """Tensors of the release's names at another width, in half precision as it is."""
    torch.manual_seed(0)
    shapes = {"conv01_1": (ngf, 3, 7, 7), "deconv03_1": (3, ngf, 7, 7)}
    for k, wide in (("02", 2 * ngf), ("03", 4 * ngf)):
        shapes |= {f"conv{k}_1": (wide, wide // 2, 3, 3), f"conv{k}_2": (wide, wide, 3, 3)}
    shapes |= {f"conv{k:02}_{i}": (4 * ngf, 4 * ngf, 3, 3) for k in range(4, 12) for i in (1, 2)}
    for k, wide in (("01", 2 * ngf), ("02", ngf)):
        shapes |= {f"deconv{k}_1": (2 * wide, wide, 3, 3), f"deconv{k}_2": (wide, wide, 3, 3)}
    state = {f"{name}.weight": torch.randn(shape) * 0.2 for name, shape in shapes.items()}
    transposed = ("deconv01_1", "deconv02_1")
    state |= {f"{n}.bias": torch.randn(s[1 if n in transposed else 0]) for n, s in shapes.items()}
    widths = {"01_1": 1, "02_1": 2, "03_1": 4, "12_1": 2, "13_1": 1}
    widths |= {f"{k:02}_{i}": 4 for k in range(4, 12) for i in (1, 2)}
    for name, factor in widths.items():
        state[f"in{name}.scale"], state[f"in{name}.shift"] = (
            torch.rand(factor * ngf),
            torch.randn(factor * ngf),
        )
    return {name: tensor.half() for name, tensor in state.items()}


@pytest.fixture
def released() -> Path:
    root = os.environ.get("GANSHRINK_WEIGHTS")
    if not root:
        pytest.skip(f"GANSHRINK_WEIGHTS is not set: no {FILE}")
    return Path(root) / FILE


def transcription(t: dict[str, Tensor], x: Tensor) -> Tensor:
    """BGR in [-1, 1] to BGR, step by step as the weights' description says it."""

    def conv(name: str, x: Tensor, **how: int) -> Tensor:
        return F.conv2d(x, t[f"{name}.weight"], t[f"{name}.bias"], **how)

    def double(name: str, x: Tensor) -> Tensor:
        return F.conv_transpose2d(
            x, t[f"{name}.weight"], t[f"{name}.bias"], stride=2, padding=1, output_padding=1
        )

    def norm(name: str, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((2, 3), keepdim=True)
        scale, shift = (t[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("scale", "shift"))
        return (x - mean) / (variance + 1e-9).sqrt() * scale + shift

    def reflect(x: Tensor, by: int) -> Tensor:
        return F.pad(x, (by,) * 4, mode="reflect")

    x = norm("in01_1", conv("conv01_1", reflect(x, 3))).relu()
    for k in ("02", "03"):
        x = conv(f"conv{k}_2", conv(f"conv{k}_1", x, stride=2, padding=1), padding=1)
        x = norm(f"in{k}_1", x).relu()
    for k in ("04", "05", "06", "07", "08", "09", "10", "11"):
        y = norm(f"in{k}_1", conv(f"conv{k}_1", reflect(x, 1))).relu()
        x = x + norm(f"in{k}_2", conv(f"conv{k}_2", reflect(y, 1)))
    for k, n in (("01", "12"), ("02", "13")):
        x = conv(f"deconv{k}_2", double(f"deconv{k}_1", x), padding=1)
        x = norm(f"in{n}_1", x).relu()
    return conv("deconv03_1", reflect(x, 3)).tanh()


@torch.no_grad()
def assert_same_picture(file: Path, ngf: int) -> None:
    network = nets.build("cartoongan", ngf=ngf).eval()
    network.load_state_dict(nets.load_weights(file, network))
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, 8, 12) * 2 - 1
    picture = F.interpolate(coarse, scale_factor=8, mode="bilinear")
    tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
    wanted = transcription(tensors, picture.flip(1)).flip(1)
    assert float(wanted.std()) > 0.1
    torch.testing.assert_close(network(picture), wanted, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_released_weights_give_the_released_picture_in_rgb(released):
    assert_same_picture(released, ngf=64)


def test_weights_of_the_releases_names_give_the_same_picture_in_rgb(tmp_path):
    save_file(random_release(4), tmp_path / "small.safetensors")
    assert_same_picture(tmp_path / "small.safetensors", ngf=4)


def test_released_weights_of_another_width_are_refused(tmp_path):
    save_file(random_release(4), tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match=r"'down.1.bias' is \(4,\) in the file, \(8,\) in the network"):
        nets.load_weights(tmp_path / "small.safetensors", nets.build("cartoongan", ngf=8))


def test_our_own_files_are_not_turned(tmp_path):
    network = nets.build("cartoongan", ngf=2, blocks=1)
    save_file(network.state_dict(), tmp_path / "ours.safetensors")
    state = nets.load_weights(tmp_path / "ours.safetensors", network)
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
