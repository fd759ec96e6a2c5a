"""Networks compared by a metric: scores are what `evaluate` gives on the same images, and candidates leave no trace."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganshrink.metrics import MetricsConfig, build, evaluate
from ganshrink.metrics.judge import chosen, hashes_of, judge_of
from ganshrink.metrics.segmenters.espnet import CLASSES
from telling import rest_exhaustive

BY_JUDGE = ("fd_squeezenet", "kd_squeezenet", "miou")


def pictures(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def shown(count: int = 11) -> list[dict[str, Any]]:
    """Inputs and label maps, four a batch."""
    images = pictures(count, 5)
    ids = (images.mean(1) * 1000).long() % CLASSES
    parts = zip(images.split(4), ids.split(4), strict=True)
    return [{"input": image, "labels": label, "paired": False} for image, label in parts]


def generator(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.Tanh()
    ).eval()


@pytest.mark.parametrize(
    ("fitness", "names", "labels", "expected"),
    [
        ("auto", ("psnr", "fd_squeezenet", "miou"), True, "miou"),
        ("auto", ("psnr", "fd_squeezenet", "miou"), False, "fd_squeezenet"),
        ("auto", ("kd_squeezenet", "fd_squeezenet"), True, "fd_squeezenet"),
        ("auto", ("kid", "kd_squeezenet"), False, "kd_squeezenet"),
        ("auto", ("kid", "fid"), False, "fid"),
        ("auto", ("kid",), False, "kid"),
        ("auto", ("psnr", "ssim_teacher", "fd_squeezenet_teacher"), True, "agreement"),
        ("auto", (), True, "agreement"),
        ("kid", ("miou",), True, "kid"),
        ("agreement", ("miou",), True, "agreement"),
        ("miou", (), True, "miou"),
    ],
)
def test_what_auto_comes_to(fitness, names, labels, expected):
    config = MetricsConfig(names=names or None)
    assert chosen(fitness, config, images=3, targets=3, labels=labels) == expected


def refusal(fitness: str, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        chosen(fitness, MetricsConfig(names=("fd_squeezenet",)), **{"labels": False} | options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_miou_without_label_maps_is_refused():
    assert "fitness = 'miou' needs label maps" in refusal("miou", images=9, targets=9)


@pytest.mark.parametrize(
    ("fitness", "images", "targets", "least"),
    [
        ("fd_squeezenet", 1, 4, 2),
        ("auto", 2, 1, 2),
        ("kd_squeezenet", 2, 4, 3),
        ("kid", 3, 2, 3),
        ("fid", 1, 2, 2),
    ],
)
def test_a_distance_of_too_few_images_is_refused(fitness, images, targets, least):
    """On either side."""
    message = refusal(fitness, images=images, targets=targets)
    assert (
        f"on {images} images kept out of training against {targets} labelled ones: it needs {least} of"
        in message
    )
    chosen(fitness, MetricsConfig(names=("fd_squeezenet",)), images=least, targets=least, labels=False)
    assert chosen("agreement", MetricsConfig(), images=1, targets=1, labels=False) == "agreement"


def test_agreement_is_minus_the_mean_difference_to_the_network_s_images():
    largest, other, batches = generator(1), generator(2), shown()
    judge = judge_of("agreement", MetricsConfig(), lambda: batches, (), lambda: largest)
    assert judge(largest) == 0 and hashes_of("agreement", MetricsConfig()) == []
    with torch.no_grad():
        images = torch.cat([batch["input"] for batch in batches])
        distance = (largest(images).double() - other(images).double()).abs().mean().item()
    assert judge(other) == pytest.approx(-distance, rel=1e-5) and distance > 0.01


def from_scratch(name: str, network: nn.Module, batches: list[dict[str, Any]], targets: Tensor) -> float:
    """The metric of the inputs, and of other images' targets where it is a distance, by `evaluate` alone."""
    given = batches if name == "miou" else [*batches, {"target": targets, "paired": False}]
    [value] = evaluate(network, given, build(MetricsConfig(names=(name,)))).values()
    return value.value if name == "miou" else -value.value


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(BY_JUDGE, "kd_squeezenet".__eq__))
def test_a_score_is_the_metric_of_the_images_and_stays_it(weights, name):
    """However many are scored in between."""
    batches, targets = shown(1 if name == "miou" else 5), pictures(3, 9)
    networks = [generator(1), generator(2)]
    judge = judge_of(name, MetricsConfig(), lambda: batches, [targets], lambda: networks[0])
    first = [judge(network) for network in networks]
    again = [judge(network) for network in reversed(networks)]
    assert first == again[::-1] and first[0] != first[1]
    expected = from_scratch(name, networks[1], batches, targets)
    assert first[1] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert (first[0] >= 0) == (name == "miou")


@pytest.mark.slow
def test_weights_that_judge_are_told_by_their_hash_and_must_be_there(weights, monkeypatch):
    [first], [other] = hashes_of("fd_squeezenet", MetricsConfig()), hashes_of("miou", MetricsConfig())
    assert first != other and len(first) == 12
    missing = MetricsConfig(squeezenet=Path("gone.safetensors"))
    with pytest.raises(FileNotFoundError, match="gone.safetensors"):
        hashes_of("kd_squeezenet", missing)
    assert hashes_of("miou", missing) == [other]


@pytest.mark.slow
def test_a_network_that_is_scored_keeps_its_flags(weights):
    judge, network = (
        judge_of("fd_squeezenet", MetricsConfig(), shown, [pictures(4, 9)], nn.Identity),
        generator(1).train(),
    )
    state = copy.deepcopy(network.state_dict())
    judge(network)
    assert network.training and all(torch.equal(state[name], t) for name, t in network.state_dict().items())
