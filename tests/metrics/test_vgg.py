"""VGG in both releases, against networks written out layer by layer."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganshrink.data import read_image, to_tensor
from ganshrink.losses import perceptual_distance
from ganshrink.metrics import Pictures, to_uint8
from ganshrink.metrics.perceptual import perceptual_metric
from ganshrink.metrics.vgg import VGG, load_vgg
from ganshrink.metrics.weights import short_hash

VGG16_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG16_WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 8, 8, 8)  # the last three are not read
VGG19_SHAPES = {2: (64, 3), 5: (64, 64), 9: (128, 64), 12: (128, 128), 16: (256, 128)}


def random_conv(outputs: int, inputs: int, kernel: int = 3) -> tuple[Tensor, Tensor]:
    scale = (2 / (inputs * kernel**2)) ** 0.5  # He et al.: activations keep their size
    return torch.randn(outputs, inputs, kernel, kernel) * scale, torch.randn(outputs) * 0.1


def torchvision_state() -> dict[str, Tensor]:
    """A state dict of torchvision's names, with layers that are not needed."""
    torch.manual_seed(0)
    state = {}
    for n, inputs, outputs in zip(VGG16_CONVS, VGG16_WIDTHS, VGG16_WIDTHS[1:], strict=False):
        state[f"features.{n}.weight"], state[f"features.{n}.bias"] = random_conv(outputs, inputs)
    return state | {"classifier.0.weight": torch.zeros(5, 8), "classifier.0.bias": torch.zeros(5)}


def normalised_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = {"0.weight": 255 * torch.eye(3).flip(0).view(3, 3, 1, 1), "0.bias": torch.full((3,), -110.0)}
    for n, (outputs, inputs) in VGG19_SHAPES.items():
        state[f"{n}.weight"], state[f"{n}.bias"] = random_conv(outputs, inputs)
    return state


def vgg16(t: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Features of images in [0, 1], convolution by convolution."""

    def conv(n: int, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(x, t[f"features.{n}.weight"], t[f"features.{n}.bias"], padding=1))

    found = {}
    found["relu1_2"] = x = conv(2, conv(0, x))
    found["relu2_2"] = x = conv(7, conv(5, F.max_pool2d(x, 2)))
    found["relu3_3"] = x = conv(14, conv(12, conv(10, F.max_pool2d(x, 2))))
    found["relu4_3"] = conv(21, conv(19, conv(17, F.max_pool2d(x, 2))))
    return found


def vgg19(t: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    def conv(n: int, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(F.pad(x, (1,) * 4, mode="reflect"), t[f"{n}.weight"], t[f"{n}.bias"]))

    found = {}
    x = F.conv2d(x, t["0.weight"], t["0.bias"])
    found["relu1_2"] = x = conv(5, conv(2, x))
    found["relu2_2"] = x = conv(12, conv(9, F.max_pool2d(x, 2)))
    found["relu3_1"] = conv(16, F.max_pool2d(x, 2))
    return found


def images(n: int = 2, seed: int = 3, side: int = 16) -> Tensor:
    return torch.rand(n, 3, side, side + 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def small(tmp_path: Path) -> VGG:
    save_file(normalised_state(), tmp_path / "vgg.safetensors")
    return load_vgg(tmp_path / "vgg.safetensors")


def test_torchvisions_vgg16_sees_unit_range_without_imagenet_statistics(tmp_path: Path) -> None:
    state, file = torchvision_state(), tmp_path / "vgg16.safetensors"
    save_file(state, file)
    network, x = load_vgg(file), images()
    torch.testing.assert_close(network(x), vgg16(state, (x + 1) / 2), atol=1e-5, rtol=1e-4)
    assert (network.content, network.style) == ("relu1_2", ("relu1_2", "relu2_2", "relu3_3", "relu4_3"))
    assert (network.name, network.sha256) == ("torchvision's VGG-16 without batch norm", short_hash(file))


def test_imagenet_statistics_can_be_switched_on(tmp_path: Path) -> None:
    state, file = torchvision_state(), tmp_path / "vgg16.pth"
    torch.save(state, file)
    network, x = load_vgg(file, normalize=True), images()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen = ((x + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(network(x), vgg16(state, seen), atol=1e-5, rtol=1e-4)
    assert network.name == "torchvision's VGG-16 without batch norm, ImageNet mean and deviation"


def test_the_normalised_vgg19_reflects_at_borders(small: VGG) -> None:
    x = images()
    expected = vgg19(normalised_state(), (x + 1) / 2)
    torch.testing.assert_close(
        small(x), expected, atol=1e-3, rtol=1e-4
    )  # activations are of the order of 100
    assert (small.content, small.style) == ("relu1_2", ("relu1_2", "relu2_2", "relu3_1"))
    assert small.name == "the normalised VGG-19"


def test_layers_behind_the_last_named_one_may_follow(tmp_path: Path) -> None:
    """The public file goes on to relu5_4, with convolutions 19, 22 and so on."""
    weight, bias = random_conv(4, 256)
    torch.save(normalised_state() | {"19.weight": weight, "19.bias": bias}, tmp_path / "vgg.pth")
    assert set(load_vgg(tmp_path / "vgg.pth")(images())) == {"relu1_2", "relu2_2", "relu3_1"}


def test_the_network_is_frozen_and_gradients_reach_its_input_alone(small: VGG) -> None:
    assert not any(p.requires_grad for p in small.parameters()) and not small.training
    fake, target = images(seed=1).requires_grad_(), images(seed=2).requires_grad_()
    small.distance(fake, target).backward()
    assert fake.grad is not None and fake.grad.isfinite().all() and fake.grad.abs().sum() > 0
    assert target.grad is None


def test_distance_is_the_perceptual_distance_of_its_features(small: VGG) -> None:
    x, y = images(seed=1), images(seed=2)
    expected = perceptual_distance(small(x), small(y), content="relu1_2", style=small.style, style_weight=7)
    assert small.distance(x, y, style_weight=7).item() == pytest.approx(expected.item())
    assert small.distance(x, y).item() > expected.item()
    assert small.distance(x, x).item() == 0


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (3, 16, 16), (1, 3, 7, 16)])
def test_images_it_cannot_see_are_refused(small: VGG, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"RGB images \(B, 3, H, W\), or grey ones, of at least 8x8, got \("):
        small(torch.zeros(shape))
    assert small(torch.zeros(1, 3, 8, 8))["relu3_1"].shape == (1, 256, 2, 2)
    grey = torch.rand(1, 1, 8, 8)
    assert torch.equal(small(grey)["relu3_1"], small(grey.repeat(1, 3, 1, 1))["relu3_1"])


def with_batch_norm() -> dict[str, Tensor]:
    convs = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30)
    return {f"features.{n}.weight": torch.zeros(2, 2, 3, 3) for n in convs} | {
        "features.1.weight": torch.ones(2)
    }


def vgg19_of_torchvision() -> dict[str, Tensor]:
    convs = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
    return {f"features.{n}.weight": torch.zeros(2, 2, 3, 3) for n in convs}


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in torchvision_state().items() if key != name}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            with_batch_norm,
            r"its convolutions are features.0, features.3, .*features.30; known are torchvision's",
        ),
        (
            vgg19_of_torchvision,
            r"features.14, features.16, features.19, .*, \.\.\.; known are .* the normalised",
        ),
        (lambda: {"fc.weight": torch.zeros(3, 3)}, "its convolutions are none; known are"),
        (lambda: without("features.14.weight"), "features.12, features.17.*; known are"),
        (lambda: without("features.14.bias"), "1 tensors are missing, the first is features.14.bias"),
        (
            lambda: torchvision_state() | {"features.0.bias": torch.zeros(3)},
            r"features.0.bias is \(3,\), expected \(64,\)",
        ),
        (
            lambda: normalised_state() | {"16.bias": torch.zeros(3)},
            r"16.bias is \(3,\), expected \(256,\)",
        ),
    ],
    ids=["batch norm", "VGG-19", "none", "no convolution", "no bias", "shape", "shape of the normalised"],
)
def test_other_files_are_refused_with_what_is_accepted(
    tmp_path: Path, make: Callable[[], dict[str, Tensor]], message: str
) -> None:
    file = tmp_path / "w.safetensors"
    save_file(make(), file)
    with pytest.raises(
        ValueError, match=rf"{file} .*{message}.* `ganshrink fetch vgg16` downloads torchvision's"
    ) as error:
        load_vgg(file)
    assert "\n" not in str(error.value)


def test_statistics_are_refused_where_they_are_inside(tmp_path: Path) -> None:
    save_file(normalised_state(), tmp_path / "vgg.safetensors")
    with pytest.raises(ValueError, match="has its preprocessing inside: leave normalize off"):
        load_vgg(tmp_path / "vgg.safetensors", normalize=True)


def test_a_missing_file_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GANSHRINK_WEIGHTS", raising=False)
    with pytest.raises(FileNotFoundError, match=r"no weights file nope.pth .*AdaIN release"):
        load_vgg("nope.pth")


@pytest.mark.parametrize("size", [5, 2])
def test_the_metric_is_the_mean_over_images_whatever_the_batch(small: VGG, size: int) -> None:
    x, y = images(5, seed=1), images(5, seed=2)
    y[1:] = x[1:] * torch.tensor([1.0, 0.9, 0.5, 0.1]).view(4, 1, 1, 1)  # from much to little in common
    saved = [
        (to_uint8(a[None]) / 127.5 - 1, to_uint8(b[None]) / 127.5 - 1) for a, b in zip(x, y, strict=True)
    ]
    alone = [small.distance(a, b).item() for a, b in saved]
    metric = perceptual_metric(small, split="val")
    for a, b in zip(x.split(size), y.split(size), strict=True):
        metric.update(Pictures(a, teacher=b))
    value = metric.compute()
    assert value.value == pytest.approx(sum(alone) / 5, rel=1e-4)
    assert (metric.name, metric.needs, value.better) == ("perceptual_teacher", {"teacher"}, "lower")
    assert value.protocol == {
        "split": "val",
        "images": 5,
        "size": "24x16",
        "quantisation": "rounded to uint8",
        "resize": "none",
        "against": "the teacher's output",
        "average": "over images",
        "network": "the normalised VGG-19",
        "weights_sha256": small.sha256,
        "content": "L1 at relu1_2",
        "style": "Gram matrices at relu1_2, relu2_2, relu3_1",
        "style_weight": 1e3,
    }


def test_images_without_a_prediction_are_not_counted(small: VGG) -> None:
    metric = perceptual_metric(small, split="val")
    metric.update(Pictures(None, target=images(), paired=False))
    metric.update(Pictures(images(1), teacher=images(1), paired=False))
    value = metric.compute()
    assert (value.value, value.protocol["images"]) == (0.0, 1)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(
    not (os.environ.get("GANSHRINK_DATA") and os.environ.get("GANSHRINK_WEIGHTS")),
    reason="needs real photos and VGG's weights: set GANSHRINK_DATA and GANSHRINK_WEIGHTS",
)
@torch.no_grad()
def test_the_released_weights_are_normalised_and_see_blur() -> None:
    """On photos the mean of each layer is about 1: that is what normalised means, and no other input range gives it."""
    file = Path(os.environ["GANSHRINK_WEIGHTS"]) / "vgg19norm_relu3_1.safetensors"
    photos = sorted((Path(os.environ["GANSHRINK_DATA"]) / "flowers" / "trainA").glob("*.jpg"))[:2]
    x = torch.stack([to_tensor(read_image(photo)) for photo in photos])[..., :128]
    network = load_vgg(file)
    seen = network(x)
    torch.testing.assert_close(seen, vgg19(load_file(file), (x + 1) / 2), atol=1e-3, rtol=1e-3)
    assert all(0.7 < features.mean() < 1.4 for features in seen.values())
    blurred = [F.interpolate(F.avg_pool2d(x, by), scale_factor=by, mode="bilinear") for by in (2, 4)]
    distances = [network.distance(y, x).item() for y in (x, *blurred)]
    assert distances[0] == 0 and 0.3 < distances[1] < distances[2]
