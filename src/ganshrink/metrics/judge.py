"""Many networks compared on the same images, by a metric's name: a score for each, the higher the better."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganshrink.metrics.config import MetricsConfig, build
from ganshrink.metrics.evaluation import evaluate
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.iou import Segmenter
from ganshrink.metrics.value import Metric, Pictures
from ganshrink.system.generator import as_tuple, generate

Fitness = Literal["auto", "miou", "fd_squeezenet", "kd_squeezenet", "fid", "kid", "agreement"]
"""A metric, or agreement: minus the mean |difference| to the images of one network; auto: see `chosen`."""

# Those that compare with other images' targets, and how many of either they need: for a covariance, a jackknife.
DISTANCES: dict[Fitness, int] = {"fd_squeezenet": 2, "kd_squeezenet": 3, "fid": 2, "kid": 3}
HIGHER = {"miou"}  # values of these are scores, of all others minus the value is

Judge = Callable[[nn.Module], float]
"""Scores a generator, which lies on the judge's device."""
Batches = Callable[[], Iterable[dict[str, Any]]]
"""The same batches at every call, as `evaluate` takes them."""


def chosen(fitness: Fitness, config: MetricsConfig, *, images: int, targets: int, labels: bool) -> Fitness:
    """What `auto` comes to: mIoU where it is among the metrics and the images have label maps, else a distance between
    distributions that is, else agreement.

    Args:
        images: how many images each network makes.
        targets: with how many others these can be compared.
        labels: whether the images have label maps.

    Raises:
        ValueError: if it asks for more than there is.
    """
    if fitness == "miou" and not labels:
        raise ValueError(
            "fitness = 'miou' needs label maps, and these training images have none: use data name = 'labelled', or another "
            "fitness"
        )
    if fitness == "auto":
        wanted = [name for name in ("miou", *DISTANCES) if name in (config.names or ())]
        fitness = next((name for name in wanted if labels or name != "miou"), "agreement")
    if min(images, targets) < (least := DISTANCES.get(fitness, 0)):
        raise ValueError(
            f"networks are to be compared by {fitness}, on {images} images kept out of training against {targets} labelled "
            f"ones: it needs {least} of each; set fitness = 'agreement', or give more images"
        )
    return fitness


def judge_of(
    fitness: Fitness, config: MetricsConfig, batches: Batches, targets: Iterable[Tensor], network: Callable[[], nn.Module],
    *, device: torch.device | str = "cpu",
) -> Judge:  # fmt: skip
    """A judge of what generators make of the batches.

    Args:
        fitness: as `chosen` gives it.
        config: where the judging networks' weights are.
        targets: images (N, 3, H, W) that a distribution is compared with. They pass through its network once, however many
            generators are scored.
        network: gives the one in eval mode that agreement is with.

    Raises:
        FileNotFoundError: if the weights of a judging network are missing.
    """
    if fitness == "agreement":
        return _agreement(network(), batches, device)
    metric = _metric(fitness, config, device)
    metric.reset()
    for images in targets if fitness in DISTANCES else ():
        metric.update(Pictures(fake=None, target=images.to(device), paired=False))

    def score(generator: nn.Module) -> float:
        seen = copy.deepcopy(metric, {id(network): network for network in _networks(metric)})
        seen.reset = lambda: None  # type: ignore[method-assign]  # `evaluate` begins with it: the targets stay
        [value] = evaluate(generator, batches(), [seen], device=device).values()
        return value.value if fitness in HIGHER else -value.value

    return score


def hashes_of(fitness: Fitness, config: MetricsConfig) -> list[str]:
    """Of the weights of the networks that judge; none for agreement.

    Raises:
        FileNotFoundError: if a weights file is missing.
    """
    if fitness == "agreement":
        return []
    return [network.sha256 for network in _networks(_metric(fitness, config, "cpu"))]


def _agreement(network: nn.Module, batches: Batches, device: torch.device | str) -> Judge:
    @torch.no_grad()
    def images_of(generator: nn.Module) -> Iterator[Tensor]:
        for batch in batches():
            yield generate(generator, tuple(tensor.to(device) for tensor in as_tuple(batch["input"]))).cpu()

    wanted = list(images_of(network))

    def score(generator: nn.Module) -> float:
        pairs = zip(images_of(generator), wanted, strict=True)
        total = sum(float((made - image).abs().double().sum()) for made, image in pairs)
        return -total / sum(image.numel() for image in wanted)

    return score


def _metric(fitness: Fitness, config: MetricsConfig, device: torch.device | str) -> Metric:
    wanted = config.model_copy(update={"names": (fitness,), "reals": "scored", "fid_statistics": None})
    return build(wanted, device, split="held out of training")[0]


def _networks(metric: Metric) -> list[FeatureNetwork | Segmenter]:
    return [part for part in vars(metric).values() if isinstance(part, FeatureNetwork | Segmenter)]
