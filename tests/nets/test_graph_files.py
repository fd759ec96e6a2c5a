"""Files that hold a graph beside the weights: read in order, and believed where both make the same picture."""

import os
import re
import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.exporters import export_onnx
from ganshrink.nets.graph_files import read_graph
from ganshrink.workflow.checkpoints import open_checkpoint


class Ncnn:
    """Writes what ncnn's converters do: a line a layer, and the weights one after the other."""

    def __init__(self, half: bool = False) -> None:
        self.lines = ["Input data 0 1 data"]
        self.binary, self.half = b"", half

    def layer(self, kind: str, inputs: str, output: str, settings: str = "") -> None:
        given = inputs.split()
        self.lines.append(f"{kind} {output} {len(given)} 1 {inputs} {output} {settings}")

    def conv(self, conv: nn.Conv2d, given: str, output: str, more: str = "") -> None:
        weight = conv.weight.detach()
        size = f"0={len(weight)} 1={weight.shape[3]} 4={conv.padding[0]} 5=1 6={weight.numel()}"
        self.layer("Convolution", given, output, f"{size} {more}")
        numbers = (weight.half() if self.half else weight).numpy().tobytes()
        self.binary += struct.pack("<I", 0x01306B47 if self.half else 0) + numbers.ljust(
            -(-len(numbers) // 4) * 4
        )
        self.binary += conv.bias.detach().numpy().tobytes()

    def prelu(self, prelu: nn.PReLU, given: str, output: str) -> None:
        self.layer("PReLU", given, output, f"0={prelu.weight.numel()}")
        self.binary += prelu.weight.detach().numpy().tobytes()

    def write(self, path: Path) -> Path:
        head = ["7767517", f"{len(self.lines)} {len(self.lines)}"]
        path.write_text("\n".join([*head, *self.lines]) + "\n")
        path.with_suffix(".bin").write_bytes(self.binary)
        return path


def compact(path: Path, *, half: bool = False, added: bool = True) -> tuple[nn.Module, Path]:
    """A small srvgg and its ncnn file."""
    torch.manual_seed(0)
    network = nets.build("srvgg", ngf=5, convs=2, scale=2)
    if half:
        network.half().float()
    file = Ncnn(half)
    blob = "data"
    for place, module in enumerate(network.body):
        write = file.conv if isinstance(module, nn.Conv2d) else file.prelu
        write(module, blob, f"b{place}")
        blob = f"b{place}"
    file.layer("PixelShuffle", blob, "big", "0=2")
    if added:
        file.layer("Interp", "data", "enlarged", "0=1 1=2.0 2=2.0")
        file.layer("BinaryOp", "big enlarged", "sum", "0=0")
    return network, file.write(path)


@pytest.mark.parametrize("half", [False, True])
def test_ncnn_in_both_precisions(tmp_path, half):
    network, path = compact(tmp_path / "net.param", half=half)
    found = open_checkpoint(path)
    assert found.net == {"name": "srvgg", "ngf": 5, "convs": 2, "scale": 2}
    assert any("the same picture" in line for line in found.said)
    x = torch.rand(1, 3, 8, 12)
    assert torch.equal(found.build()(x), network(x))


def test_what_real_esrgans_dense_blocks_are_made_of(tmp_path):
    """A convolution with its leaky ReLU inside, channels joined, a share added: by hand."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 3, 3, padding=1)
    file = Ncnn()
    file.conv(first, "data", "a", "9=2 -23310=1,0.2")
    file.layer("Concat", "data a", "joined", "0=0")
    file.conv(second, "joined", "b")
    file.layer("BinaryOp", "b", "share", "0=2 1=1 2=2.0e-01")
    file.layer("Eltwise", "share data", "sum", "0=1 -23301=2,1.0,0.5")
    x = torch.rand(1, 3, 8, 12)
    joined = torch.cat([x, nn.functional.leaky_relu(first(x), 0.2)], 1)
    expected = 0.2 * second(joined) + 0.5 * x
    assert torch.allclose(read_graph(file.write(tmp_path / "net.param")).run(x), expected, atol=1e-6)


def test_weights_that_fit_in_another_graph_are_refused(tmp_path):
    _, path = compact(tmp_path / "net.param", added=False)
    with pytest.raises(ValueError, match="fit srvgg .* but it makes another picture of the same image"):
        open_checkpoint(path)


def test_what_cannot_be_read_is_named(tmp_path):
    _, path = compact(tmp_path / "net.param")
    whole, weights = path.read_text(), path.with_suffix(".bin").read_bytes()
    with pytest.raises(ValueError, match="name net.param"):
        open_checkpoint(path.with_suffix(".bin"))
    path.with_suffix(".bin").write_bytes(weights[:-8])
    with pytest.raises(ValueError, match="ends within the weights of b6"):
        open_checkpoint(path)
    path.with_suffix(".bin").write_bytes(struct.pack("<I", 0x000D4B38) + weights[4:])
    with pytest.raises(ValueError, match="weights of b0 are quantized"):
        open_checkpoint(path)
    path.with_suffix(".bin").write_bytes(weights + b"more")
    with pytest.raises(
        ValueError, match=f"its .bin has {len(weights) + 4} bytes, its layers take {len(weights)}"
    ):
        open_checkpoint(path)
    path.with_suffix(".bin").write_bytes(weights)
    path.write_text(whole.replace("PixelShuffle", "Softmax"))
    with pytest.raises(ValueError, match="the layers Softmax are not read here"):
        open_checkpoint(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*net\.bin"):
        open_checkpoint(path)
    (tmp_path / "net.onnx").write_bytes(weights)
    with pytest.raises(ValueError, match="is damaged or no ONNX file"):
        open_checkpoint(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "not ncnn's text form"),
        (lambda text: "7767517", "holds no convolution"),
        (lambda text: text.replace("0=5 1=3", "0=five 1=3", 1), "the line .* is no layer of ncnn"),
        (lambda text: text.replace("data b0", "nothing b0", 1), "its graph does not run on .*nothing"),
        (
            lambda text: text.replace(" 4=1 ", " 4=-233 ", 1),
            "b0 pads as its size needs, which is not read here",
        ),
        (lambda text: text.replace(" 5=1 ", " 5=1 9=3 ", 1), "b0 ends in an activation .*, of kind 3"),
        (
            lambda text: re.sub(r"(BinaryOp .*) 0=0", r"\1 0=9", text),
            "is an operation of kind 9, which is not read",
        ),
    ],
)
def test_a_damaged_graph_is_one_line(tmp_path, change, said):
    _, path = compact(tmp_path / "net.param")
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=said) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value) and "unpack" not in str(caught.value)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_onnx_files_of_torch_are_sources(tmp_path):
    torch.manual_seed(0)
    network = nets.build("resnet9", ngf=4, blocks=1, affine=True).eval()
    nn.init.uniform_(network.down[2].weight)
    export_onnx(network, torch.zeros(1, 3, 32, 32), tmp_path / "net.onnx", dynamic_size=True)
    found = open_checkpoint(tmp_path / "net.onnx")
    assert found.net == {"name": "resnet9", "ngf": 4, "blocks": 1, "affine": True}
    x = torch.rand(1, 3, 16, 24)
    assert torch.allclose(found.build()(x), network(x), atol=1e-5)


@pytest.mark.skipif(not os.environ.get("GANSHRINK_WEIGHTS"), reason="needs the file: set GANSHRINK_WEIGHTS")
def test_the_compact_network_as_real_esrgan_publishes_it():
    """Four times as large inside, and halved at the end, which our network leaves out."""
    found = open_checkpoint(Path(os.environ["GANSHRINK_WEIGHTS"]) / "realesr-animevideov3-x2.param")
    assert found.net == {"name": "srvgg"}
    assert "the file then resizes its picture by 0.5 (bicubic); the network does not" in found.said
