"""How good a subnet is, on training images that were kept out of training (never the test set)."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ganshrink.data import Images
from ganshrink.data.batches import stack
from ganshrink.data.images import num_inputs
from ganshrink.metrics import MetricsConfig, build, evaluate
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.iou import Segmenter
from ganshrink.metrics.value import Metric, Pictures
from ganshrink.system.generator import as_tuple, generate

B = TypeVar("B")

Fitness = Literal["auto", "miou", "fd_squeezenet", "kd_squeezenet", "fid", "kid", "agreement"]

# Those that compare with other images' targets.
BY_TARGETS: tuple[Fitness, ...] = ("fd_squeezenet", "kd_squeezenet", "fid", "kid")
BATCH = 8
REMEMBERED = 2**30  # bytes of inputs that are read from disk once


def chosen(fitness: Fitness, metrics: MetricsConfig, held: Images) -> Fitness:
    """What `auto` comes to: mIoU where a segmenter is among the metrics and the images have label maps, else a distance
    between distributions that is, else agreement.

    Raises:
        ValueError: if mIoU is asked for and the images have no label maps.
    """
    labels = "labels" in held.sample(0, None)
    if fitness == "miou" and not labels:
        raise ValueError(
            "method.fitness = 'miou' needs label maps, and these training images have none: use data name = 'labelled', or "
            "another fitness"
        )
    if fitness != "auto":
        return fitness
    wanted = metrics.names or ()
    if "miou" in wanted and labels:
        return "miou"
    return next((name for name in BY_TARGETS if name in wanted), "agreement")


@dataclass
class Judge:
    """Scores generators; the higher the better. Made by `judge_of`."""

    name: Fitness
    score: Callable[[nn.Module], float]

    def __call__(self, generator: nn.Module) -> float:
        return self.score(generator)

    def natural(self, score: float) -> float:
        """A score as people know it: of distances, the distance."""
        return score if self.name == "miou" else -score


def judge_of(
    fitness: Fitness,
    metrics: MetricsConfig,
    held: Images,
    labelled: Images,
    largest: nn.Module | None,
    device: torch.device | str = "cpu",
) -> Judge:
    """A judge of generators.

    Args:
        fitness: see `chosen`.
        metrics: where the judging networks' weights are.
        held: training images kept out of training; their targets are not looked at.
        labelled: training images whose targets a distribution is compared with.
        largest: the supernet's largest network, in eval mode, with which agreement is measured; else none.
        device: where the networks that are scored are, and judging networks are put.

    Raises:
        FileNotFoundError: if the weights of a judging network are missing.
    """
    name = chosen(fitness, metrics, held)
    if name == "agreement":
        assert largest is not None
        return Judge(name, _Agreement(held, largest, device))
    metric = metric_of(name, metrics, device)
    return Judge(name, _Scored(metric, held, labelled if name in BY_TARGETS else None, device))


def metric_of(fitness: Fitness, metrics: MetricsConfig, device: torch.device | str = "cpu") -> Metric:
    """The metric of that name, its networks loaded.

    Raises:
        FileNotFoundError: if a weights file is missing.
    """
    wanted = metrics.model_copy(update={"names": (fitness,)})
    return build(wanted, device, split="held out of training")[0]


def check_enough(fitness: Fitness, held: Images, labelled: Images) -> None:
    """Refuse a distance between distributions of too few images.

    Raises:
        ValueError: with how many there are of either kind.
    """
    least = 2 if fitness in ("fd_squeezenet", "fid") else 3  # a covariance, a jackknife
    if fitness in BY_TARGETS and min(num_inputs(held), len(labelled)) < least:
        raise ValueError(
            f"subnets are to be compared by {fitness}, on {num_inputs(held)} images kept out of training against "
            f"{len(labelled)} labelled ones: it needs {least} of each; set method.fitness = 'agreement', or give more images"
        )


def hashes_of(fitness: Fitness, metrics: MetricsConfig) -> list[str]:
    """Of the weights of the networks that judge; none for agreement.

    Raises:
        FileNotFoundError: if a weights file is missing.
    """
    if fitness == "agreement":
        return []
    return [network.sha256 for network in _networks(metric_of(fitness, metrics))]


def label_size(held: Images) -> list[int] | None:
    """(H, W) of the label maps that mIoU sees, which no fingerprint of images holds."""
    labels = held.sample(0, None).get("labels")
    return None if labels is None else list(labels.shape)


class _Agreement:
    """Minus the mean |difference| to the largest network's images."""

    def __init__(self, held: Images, largest: nn.Module, device: torch.device | str) -> None:
        self.inputs, self.device = remembered(lambda: _inputs(held)), device
        self.wanted = list(self._images(largest))

    def __call__(self, generator: nn.Module) -> float:
        total, count = 0.0, 0
        for made, wanted in zip(self._images(generator), self.wanted, strict=True):
            total += float((made - wanted).abs().double().sum())
            count += wanted.numel()
        return -total / count

    @torch.no_grad()
    def _images(self, generator: nn.Module) -> Iterator[Tensor]:
        for batch in self.inputs():
            yield generate(
                generator, tuple(tensor.to(self.device) for tensor in as_tuple(batch["input"]))
            ).cpu()


class _Scored:
    """A metric of held-out images. The targets that a distribution is compared with pass through its network once."""

    def __init__(
        self, metric: Metric, held: Images, labelled: Images | None, device: torch.device | str
    ) -> None:
        self.inputs, self.device = remembered(lambda: _inputs(held)), device
        metric.reset()
        for batch in _targets(labelled) if labelled is not None else ():
            metric.update(Pictures(fake=None, target=batch.to(device), paired=False))
        self.metric = metric

    def __call__(self, generator: nn.Module) -> float:
        metric = _Primed(self.metric)
        [value] = evaluate(generator, self.inputs(), [metric], device=self.device).values()
        return value.value if value.better == "higher" else -value.value


class _Primed:
    """A copy of a metric and of what it has seen, but not of its network, which forgets no more than it has to."""

    def __init__(self, metric: Metric) -> None:
        self.metric = copy.deepcopy(metric, {id(network): network for network in _networks(metric)})
        self.name, self.needs = metric.name, frozenset[str]()

    def reset(self) -> None:
        """`evaluate` begins with this; the targets seen before stay."""

    def update(self, batch: Pictures) -> None:
        self.metric.update(batch)

    def compute(self) -> Any:
        return self.metric.compute()


def _networks(metric: Metric) -> list[FeatureNetwork | Segmenter]:
    return [part for part in vars(metric).values() if isinstance(part, FeatureNetwork | Segmenter)]


def _inputs(images: Images) -> Iterator[dict[str, Any]]:
    """All inputs once, in order, with the label maps that come with them; unpaired: targets are other images'."""
    count = num_inputs(images)
    for start in range(0, count, BATCH):
        samples = [images.sample(index, None) for index in range(start, min(start + BATCH, count))]
        batch: dict[str, Any] = {"paired": False}
        for key in ("input", "labels"):
            if key in samples[0]:
                batch[key] = stack([sample[key] for sample in samples])
        yield batch


def remembered(batches: Callable[[], Iterator[B]]) -> Callable[[], Iterator[B]]:
    """Batches that every candidate sees, kept in memory as far as they are small enough, else read again."""
    kept: list[B] = []
    room = REMEMBERED
    for batch in batches():
        room -= sum(tensor.nbytes for tensor in tree_leaves(batch) if isinstance(tensor, Tensor))
        if room < 0:
            return batches
        kept.append(batch)
    return lambda: iter(kept)


def inputs_of(images: Images, count: int) -> Iterator[tuple[Tensor, ...]]:
    """The inputs of at most `count` images spread over the set, in batches."""
    available = num_inputs(images)
    count = min(count, available)
    places = [index * available // count for index in range(count)]
    for start in range(0, count, BATCH):
        chunk = [images.sample(place, None)["input"] for place in places[start : start + BATCH]]
        yield as_tuple(stack(chunk))


def _targets(images: Images) -> Iterator[Tensor]:
    for start in range(0, len(images), BATCH):
        samples = [images.sample(index, None) for index in range(start, min(start + BATCH, len(images)))]
        present = [sample["target"] for sample in samples if "target" in sample]
        if present:
            yield stack(present)
