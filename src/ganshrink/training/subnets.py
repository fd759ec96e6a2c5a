"""How good the subnets of a trained network are, on images kept out of its training."""

from typing import Any

from torch import nn

from ganshrink.data.held_out import TrainingImages
from ganshrink.data.images import num_inputs
from ganshrink.data.passes import remembered, spread_inputs
from ganshrink.metrics import MetricsConfig
from ganshrink.metrics.judge import Fitness, chosen, hashes_of, judge_of
from ganshrink.pruning import Channels
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.extract import cut
from ganshrink.pruning.search.space import Space
from ganshrink.system.copies import in_evaluation
from ganshrink.training.batch_norm import recalibrate
from ganshrink.training.config import FitConfig
from ganshrink.training.devices import open_machine


def judgement(fitness: Fitness, metrics: MetricsConfig, images: TrainingImages) -> dict[str, Any]:
    """By what subnets are compared, and what else decides scores, for a stage's stamp.

    Raises:
        FileNotFoundError: if the weights of a network that judges are missing.
        ValueError: if these images are of the wrong kind for it, or too few.
    """
    labels = images.held.sample(0, None).get("labels")
    counts: Any = {"images": num_inputs(images.held), "targets": len(images.labelled)}
    fitness = chosen(fitness, metrics, labels=labels is not None, **counts)
    size = None if labels is None else list(labels.shape)  # which no fingerprint of images holds
    known = {"held": images.held.fingerprint(), "metrics": {"seed": metrics.seed, "labels": size}}
    return {"fitness": fitness, "judges": hashes_of(fitness, metrics), **known}


class SubnetScores:
    """The score of a subnet by its widths, as a network of its own whose batch norms are counted anew.

    Args:
        network: the whole one, trained.
        fitness: as `judgement` says.
        seen: on how many images batch norms are counted.
        training: how the network was, for the device.
    """

    def __init__(
        self, network: nn.Module, channels: Channels, space: Space, images: TrainingImages, fitness: Fitness,
        metrics: MetricsConfig, *, seen: int, training: FitConfig,
    ) -> None:  # fmt: skip
        self.network, self.channels, self.space = in_evaluation(network), channels, space
        self.device = open_machine(training).fabric.device
        self.fitness, self.images = fitness, len(images.held)
        self._seen = remembered(lambda: spread_inputs(images.unlabelled, seen))
        held, targets = remembered(images.held_batches), images.target_batches()
        whole = lambda: self.subnet(space.largest())  # noqa: E731
        self._judge = judge_of(fitness, metrics, held, targets, whole, device=self.device)

    def __call__(self, widths: Index) -> float:
        return self._judge(self.subnet(widths))

    def subnet(self, widths: Index) -> nn.Module:
        """The subnet, on the device."""
        network = cut(self.network, self.channels, self.space.plan(self.channels, widths))
        batches = (tuple(tensor.to(self.device) for tensor in inputs) for inputs in self._seen())
        return recalibrate(in_evaluation(network).to(self.device), batches)
