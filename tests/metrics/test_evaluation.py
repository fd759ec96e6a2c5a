"""Configuration, building and the pass over the images."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ganshrink.metrics import METRICS, MetricsConfig, build, evaluate

DEFAULT = ("psnr", "ssim", "psnr_teacher", "ssim_teacher")


class Gain(nn.Module):
    """A generator that multiplies, holding a dropout whose mode shows whether it was scored in eval mode."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm2d(3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.calls += 1
        return self.drop(x) * self.gain


def batches(n: int = 6, size: int = 2, *, labels: bool = False, side: int = 16) -> list[dict[str, Any]]:
    images = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    maps = torch.randint(0, 12, (n, side, side), generator=torch.Generator().manual_seed(1))
    found = []
    for start in range(0, n, size):
        part = slice(start, start + size)
        batch: dict[str, Any] = {"input": images[part], "target": images[part], "name": ["x"] * size}
        found.append({**batch, "labels": maps[part]} if labels else batch)
    return found


def test_agreement_is_with_the_teacher_and_quality_with_the_target() -> None:
    values = evaluate(Gain(0.5), batches(), build(MetricsConfig()), teacher=Gain(0.5))
    assert tuple(values) == DEFAULT
    assert values["psnr_teacher"].value == 100.0
    assert values["ssim_teacher"].value == pytest.approx(1.0, abs=1e-6)
    assert 5 < values["psnr"].value < 30
    assert values["psnr"].protocol["images"] == 6


@pytest.mark.parametrize(
    ("offered", "names"),
    [
        ({"target", "pairs", "labels"}, DEFAULT),
        ({"target", "pairs"}, DEFAULT),
        ({"target"}, ("psnr_teacher", "ssim_teacher")),
        (set(), ("psnr_teacher", "ssim_teacher")),
    ],
)
def test_without_names_what_the_data_allow_is_measured(offered: set[str], names: tuple[str, ...]) -> None:
    assert tuple(metric.name for metric in build(MetricsConfig(), offered=offered)) == names


def test_no_names_are_none() -> None:
    assert build(MetricsConfig(names=())) == []


@pytest.mark.parametrize(
    ("name", "offered", "message"),
    [
        ("psnr", {"target"}, "psnr needs a target image for each input, and these data have none"),
        ("ssim", set(), "ssim needs a target image for each input"),
        ("fd_squeezenet", set(), "fd_squeezenet needs target images"),
        ("kd_squeezenet", set(), "kd_squeezenet needs target images"),
        ("miou", {"target"}, "miou needs label maps"),
    ],
)
def test_what_the_data_lack_is_refused_by_name(
    weights: Path, name: str, offered: set[str], message: str
) -> None:
    with pytest.raises(ValueError, match=f"metrics.names: {message}"):
        build(MetricsConfig(names=("psnr_teacher", name)), offered=offered)


def unpaired_batches() -> list[dict[str, Any]]:
    """Four inputs and seven targets, three a batch."""
    images = torch.rand(11, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    sides = {"input": images[:4].split(3), "target": images[4:].split(3)}
    return [
        {"paired": False} | {kind: parts[i] for kind, parts in sides.items() if i < len(parts)}
        for i in range(3)
    ]


@pytest.mark.slow
def test_unpaired_images_are_scored_each_once(weights: Path) -> None:
    names = ("psnr_teacher", "fd_squeezenet", "kd_squeezenet", "kd_squeezenet_teacher")
    network = Gain(0.5)
    values = evaluate(network, unpaired_batches(), build(MetricsConfig(names=names)), teacher=Gain(0.5))
    counted = [(values[name].protocol["images"], values[name].protocol.get("targets")) for name in names]
    assert counted == [(4, None), (4, 7), (4, 7), (4, None)]
    assert network.calls == 2  # not for a batch of targets alone
    assert values["psnr_teacher"].value == 100.0
    assert values["kd_squeezenet_teacher"].value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_limit_holds_for_both_sides_of_unpaired_images(weights: Path) -> None:
    metrics = build(MetricsConfig(names=("fd_squeezenet",)))
    for limit, counts in ((3, (3, 3)), (5, (4, 5))):
        protocol = evaluate(Gain(0.5), unpaired_batches(), metrics, limit=limit)["fd_squeezenet"].protocol
        assert (protocol["images"], protocol["targets"]) == counts


def test_without_a_teacher_agreement_is_left_out() -> None:
    assert tuple(evaluate(Gain(1.0), batches(), build(MetricsConfig()))) == ("psnr", "ssim")


@pytest.mark.slow
def test_all_metrics_in_one_pass_and_the_batch_size_does_not_matter(weights: Path) -> None:
    # fid and kid, whose weights are 96 MB, and those that ask the network again have tests of their own.
    names = tuple(name for name in METRICS if name not in ("fid", "kid", "flicker", "checkerboard"))
    metrics = build(MetricsConfig(names=names, split="val"))
    network = Gain(0.5)
    # 24 is the least side that ST-LPIPS takes
    values = [
        evaluate(network, batches(size=size, labels=True, side=24), metrics, teacher=Gain(0.9))
        for size in (2, 4)
    ]
    assert network.calls == 3 + 2
    assert tuple(values[0]) == names
    for name in names:
        assert values[0][name].value == pytest.approx(values[1][name].value, rel=1e-3), name
        assert values[0][name].protocol["split"] == "val"
        assert {"images", "size", "resize"} <= values[0][name].protocol.keys()
    assert values[0]["fd_squeezenet"].protocol["rank"] == "rank-deficient"
    frechet, kernel = (metrics[names.index(name)] for name in ("fd_squeezenet", "kd_squeezenet"))
    assert frechet.network is kernel.network  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_perfect_generator(weights: Path) -> None:
    values = evaluate(
        nn.Identity(), batches(), build(MetricsConfig(names=("psnr", "fd_squeezenet", "kd_squeezenet")))
    )
    assert values["psnr"].value == 100.0
    assert values["fd_squeezenet"].value == pytest.approx(0.0, abs=1e-9)
    assert values["kd_squeezenet"].value == pytest.approx(0.0, abs=1e-9)


def test_training_flags_come_back_each_as_it_was() -> None:
    network, teacher = Gain(1.0), Gain(1.0).eval()
    network.norm.eval()
    diverged = {"input": torch.full((1, 3, 16, 16), torch.nan), "target": torch.zeros(1, 3, 16, 16)}
    with pytest.raises(ValueError, match="NaN"):
        evaluate(network, [diverged], build(MetricsConfig()), teacher=teacher)
    assert (network.training, network.drop.training, network.norm.training) == (True, True, False)
    assert not teacher.drop.training


def test_limit_counts_images() -> None:
    network = Gain(0.5)
    values = evaluate(network, batches(), build(MetricsConfig()), limit=3)
    assert (values["psnr"].protocol["images"], network.calls) == (3, 2)


def test_evaluating_twice_starts_afresh() -> None:
    metrics = build(MetricsConfig())
    first = evaluate(Gain(0.5), batches(), metrics)
    assert evaluate(Gain(0.5), batches(), metrics) == first


def test_no_images_and_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="no images to score"):
        evaluate(Gain(1.0), [], build(MetricsConfig()))
    with pytest.raises(ValueError, match=r"generated batch is \(2, 3, 8, 8\) but the target batch"):
        evaluate(nn.AvgPool2d(2), batches(), build(MetricsConfig()))


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(
        ValidationError, match=r"unknown metric 'fid_squeezenet'; did you mean 'fd_squeezenet'"
    ):
        MetricsConfig(names=("fid_squeezenet",))
    with pytest.raises(ValidationError, match="named twice"):
        MetricsConfig(names=("psnr", "psnr"))
    with pytest.raises(ValidationError, match="Extra inputs"):
        MetricsConfig(name=("psnr",))  # type: ignore[call-arg]


def test_every_setting_has_a_description() -> None:
    assert MetricsConfig().names is None
    assert all(field.description for field in MetricsConfig.model_fields.values())


def test_missing_weights_stop_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path))
    for name in ("fd_squeezenet", "kd_squeezenet", "perceptual_teacher", "miou"):
        with pytest.raises(FileNotFoundError, match="no weights file"):
            build(MetricsConfig(names=(name,)))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_importing_the_package_does_not_import_torchmetrics() -> None:
    code = "import sys, ganshrink.metrics; assert 'torchmetrics' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
