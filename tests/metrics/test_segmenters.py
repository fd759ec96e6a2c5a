"""Segmenters that judge mIoU: DRN-D-105 of Cityscapes, an ONNX file, one of the user's own."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ganshrink.metrics import MetricsConfig, Pictures, Segmenter, build
from ganshrink.metrics.iou import resized_ids
from ganshrink.metrics.segmenters import load_segmenter
from ganshrink.metrics.segmenters.drn import DRN, MEAN_RGB, STD_RGB


def test_drn_is_the_published_network() -> None:
    with torch.device("meta"):
        network, classifier = DRN(), nn.Conv2d(512, 1000, 1)
    weights = [name for name in network.state_dict() if "num_batches" not in name]
    backbone = [*network.base.parameters(), *classifier.parameters()]
    assert round(sum(p.numel() for p in backbone) / 1e6, 1) == 54.8  # as its authors count it
    assert len([name for name in weights if name.endswith("running_mean")]) == 5 + 33 * 3 + 4
    expected = {
        "base.0.0.weight",
        "base.2.1.running_var",
        "base.5.22.conv2.weight",
        "base.6.0.downsample.1.bias",
        "base.8.0.weight",
        "seg.bias",
        "up.weight",
    }
    assert expected <= set(weights)
    dilations = [network.base[i][0].conv2.dilation[0] for i in (3, 4, 5, 6)]  # type: ignore[index]
    assert dilations == [1, 1, 2, 4] and network.base[7][0].dilation == (2, 2)  # type: ignore[index]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_drn_judges_as_the_papers_do(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DRN().eval()
    torch.save(network.state_dict(), tmp_path / "drn.pth")
    segmenter = load_segmenter("drn-d-105-cityscapes", tmp_path / "drn.pth", "cpu")
    pictures = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8)
    seen = segmenter.predict(pictures, (128, 256))
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN_RGB, STD_RGB))
    with torch.no_grad():
        logs = network((pictures / 255 - mean) / std).log_softmax(1)
        assert logs.shape == (2, 19, 32, 64) and network.base(pictures / 255).shape == (2, 512, 4, 8)
    logs = F.interpolate(logs, size=(128, 256), mode="bilinear", align_corners=False)
    assert (seen == logs.argmax(1)).float().mean() > 0.999 and (segmenter.classes, segmenter.void) == (20, 19)


def test_the_largest_of_resized_scores_is_that_of_resized_logarithms() -> None:
    scores = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    logs = F.interpolate(scores.log_softmax(1), size=(24, 28), mode="bilinear", align_corners=False)
    assert torch.equal(resized_ids(scores, (24, 28)), logs.argmax(1))


def brightest(path: Path, shape: list[Any], *, levels: int) -> Path:
    """A file whose scores are the three colours."""
    given = onnx.helper.make_tensor_value_info("picture", levels, shape)
    scores = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, shape)
    node = onnx.helper.make_node("Cast", ["picture"], ["scores"], to=onnx.TensorProto.FLOAT)
    graph = onnx.helper.make_graph([node], "judge", [given], [scores])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path
    )
    return path


@pytest.mark.parametrize("levels", [onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8])
@pytest.mark.parametrize("dynamic", [True, False])
def test_an_onnx_file_judges(tmp_path: Path, dynamic: bool, levels: int) -> None:
    shape = ["N", 3, "H", "W"] if dynamic else [1, 3, 8, 12]
    path = brightest(tmp_path / "judge.onnx", shape, levels=levels)
    labels = torch.tensor([0, 1, 2, 3]).repeat(4, 1).repeat_interleave(2, 0).repeat_interleave(3, 1)[None]
    picture = F.one_hot(labels.clamp(max=2), 3).permute(0, 3, 1, 2).float() * 2 - 1
    [metric] = build(MetricsConfig(names=("miou",), segmenter=str(path)))
    metric.update(Pictures(picture, picture, labels=labels))
    value = metric.compute()
    assert value.value == pytest.approx(100) and value.protocol["network"] == "judge.onnx"
    assert ("ImageNet" in str(value.protocol["resize"])) == (levels == onnx.TensorProto.FLOAT)
    assert ("to 12x8" in str(value.protocol["resize"])) == (not dynamic)
    [metric] = build(MetricsConfig(names=("miou",), segmenter=str(path), segmenter_void=0))
    metric.update(Pictures(picture, picture, labels=labels))
    assert (metric.compute().protocol["classes"], metric.compute().value) == (3, pytest.approx(100 * 1.5 / 3))


def test_an_onnx_file_lies_here_or_among_the_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    for folder in ("runs", "weights"):
        (tmp_path / folder).mkdir()
    brightest(tmp_path / "runs/judge.onnx", ["N", 3, 8, 8], levels=onnx.TensorProto.UINT8)
    brightest(tmp_path / "weights/other.onnx", ["N", 3, 8, 8], levels=onnx.TensorProto.UINT8)
    for name in ("runs/judge.onnx", "other.onnx"):
        assert build(MetricsConfig(names=("miou",), segmenter=name))


def of_my_own(weights: Path | None, device: str) -> Segmenter:
    assert (weights, device) == (None, "cpu")
    return Segmenter("mine", lambda pictures, size: pictures[:, 0].long(), 3, resize="none", sha256="0" * 12)


def a_network(weights: Path | None, device: str) -> nn.Module:
    return nn.Identity()


def test_a_segmenter_of_ones_own_judges() -> None:
    [metric] = build(MetricsConfig(names=("miou",), segmenter=f"{__name__}:of_my_own"))
    red = torch.tensor([[0, 1], [1, 1]]) / 127.5 - 1
    metric.update(Pictures(red.expand(1, 3, 2, 2), labels=torch.tensor([[[0, 1], [0, 2]]])))
    assert metric.compute().value == pytest.approx(50) and metric.compute().protocol["network"] == "mine"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("espnet", "unknown segmenter 'espnet'.*espnet-camvid"),
        (f"{__name__}:a_network", "must make a ganshrink.metrics.Segmenter, got Identity"),
        (f"{__name__}:no", "has no 'no'"),
        (__file__, "unknown segmenter|no ONNX file"),
    ],
)
def test_what_is_no_segmenter_is_refused_in_one_line(name: str, line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        build(MetricsConfig(names=("miou",), segmenter=name))
    assert "\n" not in str(error.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no ONNX file that runs here"):
        load_segmenter(str(tmp_path / "no.onnx"), None, "cpu")
    with pytest.raises(FileNotFoundError, match="drn-d-105_ms_cityscapes.pth"):
        load_segmenter("drn-d-105-cityscapes", None, "cpu")
