"""An exported file computes what torch computes, or there is no file."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.exporters import check_parity, export_onnx, open_session
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

NETS = {
    "resnet9": (32, {"blocks": 1}),
    "incres9": (32, {"blocks": 1}),
    "unet128": (32, {"downs": 5}),
    "mobile_resnet9": (32, {"blocks": 1}),
    "cartoongan": (32, {"blocks": 1}),
    "devicenet": (32, {"blocks": 2}),
    "pix2pixhd": (32, {"blocks": 1, "ngf": 2}),
    "pix2pixhd_local": (32, {"blocks": 1, "ngf": 2, "local_blocks": 1, "halvings": 2}),
    "gaugan": (32, {"in_channels": 3, "hidden": 4, "doublings": 5}),
    "incres_gaugan": (64, {"in_channels": 3, "ngf": 6, "hidden": 6, "doublings": 5}),
    "mobile_gaugan": (64, {"in_channels": 3, "doublings": 5}),
}


def tiny(name: str, **options: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    size, more = NETS[name]
    net = nets.build(name, **{"ngf": 4, **more, **options}).eval()
    return net, torch.rand(1, 3, size, size) * 2 - 1


def run(path: Path, batch: Tensor) -> np.ndarray:
    return open_session(path, threads=1).run(["image"], {"input": batch.numpy()})[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(NETS, "resnet9".__eq__))
def test_every_net_at_any_batch_and_size(name: str, tmp_path: Path) -> None:
    net, example = tiny(name)
    path = tmp_path / "net.onnx"
    entry = export_onnx(net, example, path, dynamic_size=True, inputs=[example[0]])
    size = example.shape[2]
    for shape in ((1, 3, size, size), (3, 3, size, size), (2, 3, 2 * size, size)):
        batch = torch.rand(shape) * 2 - 1
        with torch.no_grad():
            wanted = net(batch).numpy()
        assert np.abs(run(path, batch) - wanted).max() < 1e-4
    # levels of 255, and decibels. Instance norms enlarge rounding where they see a few pixels alone (mobile_gaugan), or a
    # picture of one colour, of which torch in float32 itself is up to a level from float64 (cartoongan)
    levels, decibels = {"mobile_gaugan": (0.05, 85), "cartoongan": (1, 65)}.get(name, (0.01, 100))
    assert entry["max_abs_diff"] < levels and entry["psnr_db"] > decibels
    assert entry["inputs"] >= 12 and entry["batches"] == [1, 2] and len(entry["sizes"]) >= 3


def test_one_whole_file_that_says_what_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    net, example = tiny("resnet9")
    net.train()
    path = tmp_path / "deep" / "net.onnx"
    entry = export_onnx(net, example, path)
    assert capfd.readouterr() == ("", "")  # and nothing is said
    model = onnx.load(path)
    assert [p.name for p in path.parent.iterdir()] == ["net.onnx"]  # no external weights, nothing half-made
    assert entry["bytes"] == path.stat().st_size > 4 * sum(p.numel() for p in net.parameters())
    assert entry["opset"] == next(o.version for o in model.opset_import if o.domain == "")
    assert [i.name for i in model.graph.input] == ["input"] and [o.name for o in model.graph.output] == [
        "image"
    ]
    sides = [side.dim_param or side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 3, 32, 32]
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()  # no path of the maker's machine
    assert net.training  # the user's network is as it was


@pytest.mark.exhaustive
def test_uint8_pictures_in_and_out(tmp_path: Path) -> None:
    net, example = tiny("resnet9")
    path = tmp_path / "net.onnx"
    entry = export_onnx(net, example, path, image_io="uint8")
    picture = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        wanted = ((net(picture.float() / 127.5 - 1) + 1) / 2 * 255).round().clamp(0, 255)
    given = run(path, picture)
    assert given.dtype == np.uint8 and np.abs(given.astype(int) - wanted.numpy()).max() <= 1
    assert len(np.unique(given)) > 20  # a picture, not a constant
    assert entry["image_io"] == "uint8"


def test_one_hot_labels_stay_as_they_are(tmp_path: Path) -> None:
    net, _ = tiny("resnet9", in_channels=5)
    labels = nn.functional.one_hot(torch.randint(5, (1, 32, 32)), 5).permute(0, 3, 1, 2).float()
    path = tmp_path / "net.onnx"
    export_onnx(net, labels, path, image_io="float32", dynamic_batch=False)
    with torch.no_grad():
        wanted = (net(labels).numpy() + 1) * 127.5
    given = run(path, labels)
    assert given.dtype == np.float32 and np.abs(given - wanted).max() < 0.05


class Styled(nn.Module):
    """An image, a style vector and a class, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.style, self.kind = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(5, 3), nn.Embedding(4, 3)

    def forward(self, image: Tensor, style: Tensor, kind: Tensor) -> Tensor:
        return (self.conv(image) + (self.style(style) + self.kind(kind))[:, :, None, None]).tanh()


def styled(count: int = 1) -> tuple[Tensor, ...]:
    return torch.rand(count, 3, 8, 8) * 2 - 1, torch.randn(count, 5), torch.arange(count) % 4


@pytest.mark.parametrize("image_io", [pytest.param(None, marks=pytest.mark.exhaustive), "uint8"])
def test_several_inputs_keep_their_order_and_types(image_io: str | None, tmp_path: Path) -> None:
    net, path = Styled(), tmp_path / "net.onnx"
    real = tuple(tensor[0] for tensor in styled())
    entry = export_onnx(net, styled(), path, dynamic_size=True, image_io=image_io, inputs=[real, styled(2)])
    assert entry["batches"] == [1, 2] and len(entry["sizes"]) >= 3
    image, style, kind = styled(3)
    picture = image if image_io is None else ((image + 1) * 127.5).round().to(torch.uint8)
    given = {"input_0": picture.numpy(), "input_1": style.numpy(), "input_2": kind.numpy()}
    found = torch.from_numpy(open_session(path, threads=1).run(["image"], given)[0])
    with torch.no_grad():
        wanted = net(image if image_io is None else picture / 127.5 - 1, style, kind)
    if image_io is None:
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    else:
        assert found.dtype == torch.uint8 and (found - (wanted + 1) * 127.5).abs().max() <= 1


def test_a_generator_that_gives_more_than_an_image_is_refused(tmp_path: Path) -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x + 1

    with pytest.raises(ValueError, match="returns a tuple of 2, not one image: wrap it"):
        export_onnx(Pair(), torch.zeros(1, 3, 8, 8), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


class Shifted(nn.Module):
    """Runs one way when traced and another when called: what a faulty converter looks like from outside."""

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() + (0.1 if torch.compiler.is_compiling() else 0.0)


class Stubborn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


def test_a_file_that_computes_something_else_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"differs from torch by 12\.\d* of 255 levels"):
        export_onnx(Shifted(), torch.zeros(1, 3, 8, 8), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_does_not_export_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"an earlier file")
    with pytest.raises(ValueError, match="does not export to ONNX: ") as caught:
        export_onnx(Stubborn(), torch.zeros(1, 3, 8, 8), path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"an earlier file" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.exhaustive
def test_parity_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 8, 8), path)
    with pytest.raises(ValueError, match="differs"):
        check_parity(path, nn.Conv2d(3, 3, 1).requires_grad_(False), [torch.rand(1, 3, 8, 8)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"example": torch.zeros(3, 8, 8)}, "must have the shape"),
        ({"image_io": "int4"}, "image_io must be uint8 or float32, got 'int4'"),
        ({"inputs": [torch.zeros(3, 9, 9)]}, r"a real input has the shape \(3, 9, 9\)"),
        ({"inputs": [(torch.zeros(3, 8, 8), torch.zeros(5))]}, "a real input has 2 tensors, the example 1"),
        ({"example": (torch.zeros(1, 3, 8, 8), torch.zeros(2, 5))}, "must be batches of one size"),
        ({"example": torch.zeros(1, 5), "dynamic_size": True}, "dynamic_size needs an image"),
    ],
)
def test_bad_arguments(options: dict, message: str, tmp_path: Path) -> None:
    example = options.pop("example", torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=message):
        export_onnx(nn.Identity(), example, tmp_path / "net.onnx", **options)


def test_a_network_of_one_size_only_says_so(tmp_path: Path) -> None:
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3 * 64), nn.Unflatten(1, (3, 8, 8)))
    with pytest.raises(ValueError, match="fixed size"):
        export_onnx(fixed, torch.zeros(1, 3, 8, 8), tmp_path / "net.onnx", dynamic_size=True)


def test_a_missing_install_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # what Python itself uses for "cannot be imported"
    with pytest.raises(ValueError, match=r'onnxscript .*pip install "ganshrink\[onnx\]"'):
        export_onnx(nn.Identity(), torch.zeros(1, 3, 8, 8), tmp_path / "net.onnx")
