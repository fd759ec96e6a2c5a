"""A file of free size computes what the network computes at every size, or there is none, and the reason is said."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganshrink.exporters import export_onnx
from ganshrink.exporters.runtime import open_session, run_session
from telling import rest_exhaustive

SIZES = ((8, 8), (12, 20), (30, 30), (31, 33), (35, 46), (48, 32), (64, 64))


class Net(nn.Module):
    """Two convolutions around what a test is about."""

    def __init__(self, way: Callable[..., Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.leave, self.way = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1), way
        self.table = nn.Parameter(torch.randn(1, 4, 32, 32))

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        return self.leave(self.way(self, self.enter(x), x, *more)).tanh()


def padded(net: Net, h: Tensor, x: Tensor) -> Tensor:
    """What window attention does: up to a multiple of 8 and back."""
    height, width = x.shape[2:]
    h = F.pad(h, (0, -width % 8, 0, -height % 8), mode="reflect")
    h = F.interpolate(F.avg_pool2d(h, 8), scale_factor=8)
    return h[..., :height, :width]


def cropped(net: Net, h: Tensor, x: Tensor) -> Tensor:
    """A U-Net that pads what it has halved to where it came from."""
    small = F.interpolate(F.max_pool2d(h, 2), scale_factor=2)
    dy, dx = h.shape[2] - small.shape[2], h.shape[3] - small.shape[3]
    return h + F.pad(small, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))


def halved(net: Net, h: Tensor, x: Tensor) -> Tensor:
    half = F.interpolate(h, scale_factor=0.5, mode="bilinear")
    return F.interpolate(half, size=x.shape[2:], mode="bilinear", align_corners=True)


def gated(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return h * h.mean((2, 3)).sigmoid().view(-1, 4, 1, 1)


def windows(net: Net, h: Tensor, x: Tensor) -> Tensor:
    b, c, height, width = h.shape
    parts = h.view(b, c, height // 4, 4, width // 4, 4).softmax(3)
    return parts.reshape(b, c, height, width)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "multiple"),
    rest_exhaustive(
        [(padded, 1), (cropped, 1), (halved, 1), (gated, 1), (windows, 4)],
        lambda case: case[0] is windows,
    ),
)
def test_what_is_accepted_is_right_wherever_the_network_runs(
    way: Callable[..., Tensor], multiple: int, tmp_path: Path
) -> None:
    net, path = Net(way).eval(), tmp_path / "net.onnx"
    entry = export_onnx(net, torch.rand(1, 3, 32, 32), path, dynamic_size=True)
    assert entry["size_multiple"] == multiple and entry["size_least"] <= 16
    said = {one.key: one.value for one in onnx.load(path).metadata_props}
    assert said.items() >= {name: str(entry[name]) for name in ("size_multiple", "size_least")}.items()
    session, compared = open_session(path, threads=1), 0
    for number, size in enumerate(SIZES):
        batch = torch.rand(1 + number % 3, 3, *size) * 2 - 1
        if size[0] % multiple or size[1] % multiple or min(size) < entry["size_least"]:
            continue
        with torch.no_grad():
            torch.testing.assert_close(run_session(session, (batch,)), net(batch), atol=1e-4, rtol=0)
        compared += 1
    assert compared >= 3


def padded_if_needed(net: Net, h: Tensor, x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    if height % 4 or width % 4:
        return padded(net, h, x)
    return h


def saves_memory(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(h, 2), size=x.shape[2:]) if x.shape[2] * x.shape[3] > 2500 else h


def small_differs(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return h if x.shape[3] >= 24 else 2 * h


def turned(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return h if x.shape[2] == x.shape[3] else h.flip(3)


def one_image(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return h if x.shape[0] > 1 else 2 * h


def pooled(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return h * F.avg_pool2d(h, h.shape[2:]).sigmoid()


def places(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return h + torch.linspace(-1, 1, x.shape[2])[:, None]


def tabled(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return h + (net.table if h.shape[2:] == net.table.shape[2:] else F.interpolate(net.table, h.shape[2:]))


def truncated(net: Net, h: Tensor, x: Tensor) -> Tensor:
    side = int(x.shape[2] * 0.4)
    return F.interpolate(F.interpolate(h, size=(side, side)), size=x.shape[2:])


def antialiased(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(
        F.interpolate(h, scale_factor=0.5, mode="bilinear", antialias=True), size=x.shape[2:]
    )


def in_parts(net: Net, h: Tensor, x: Tensor) -> Tensor:
    return h + F.interpolate(F.adaptive_avg_pool2d(h, 4), size=h.shape[2:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "reason"),
    rest_exhaustive(
        [
            (padded_if_needed, "another way where height and width are no multiples of 4, as at 33x32"),
            (saves_memory, r"it asks for .*(height.width|width.height) <= 2500"),
            (small_differs, "it asks for .*width.*24"),
            (turned, "it asks for .*(height == width|width == height)"),
            (one_image, "no free batch: of 2 images its code takes a way that it leaves for 1"),
            (pooled, "fixed size"),
            (places, "takes the height for the number 32"),
            (tabled, "takes the height for the number 32 and the width for the number 32"),
            (truncated, "it asks for .*height.* == 12"),
            (antialiased, "wrong at another size"),
            (in_parts, "wrong at another size"),
        ],
        lambda case: case[0] in {padded_if_needed, small_differs, one_image, pooled, places},
    ),
)
def test_what_is_fixed_is_refused_with_its_reason(
    way: Callable[..., Tensor], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        export_onnx(Net(way).eval(), torch.rand(1, 3, 32, 32), tmp_path / "net.onnx", dynamic_size=True)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(":")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
@pytest.mark.slow
def test_an_operator_without_a_form_of_free_size_is_named(tmp_path: Path) -> None:
    class Back(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 3, 3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.down(x), output_size=x.shape[2:])

    with pytest.raises(ValueError, match=r"aten.convolution.default: ONNX has no form of it where"):
        export_onnx(Back(), torch.rand(1, 3, 32, 32), tmp_path / "net.onnx", dynamic_size=True)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_side_of_one_is_no_size(tmp_path: Path) -> None:
    def noisy(net: Net, h: Tensor, x: Tensor, level: Tensor, half: Tensor) -> Tensor:
        return h + level * F.interpolate(half, scale_factor=2)

    net, path = Net(noisy).eval(), tmp_path / "net.onnx"
    example = torch.rand(1, 3, 32, 32), torch.rand(1, 1, 1, 1), torch.rand(1, 1, 16, 16)
    entry = export_onnx(net, example, path, dynamic_size=True)
    assert entry["size_multiple"] == 2 and "1x1" in entry["sizes"]
    batch = torch.rand(2, 3, 48, 20), torch.rand(2, 1, 1, 1), torch.rand(2, 1, 24, 10)
    with torch.no_grad():
        torch.testing.assert_close(run_session(open_session(path), batch), net(*batch), atol=1e-4, rtol=0)
