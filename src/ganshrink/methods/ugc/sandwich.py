"""Stage 1 (section 3.1): one step trains the largest network on labelled pairs, and two subnets on its images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganshrink.methods.ugc.config import SpaceConfig
from ganshrink.methods.ugc.teaching import DistillationLoss
from ganshrink.pruning.search.space import Space
from ganshrink.pruning.search.supernet import Subnet, Supernet
from ganshrink.system.generator import as_tuple
from ganshrink.training import Update


class Sandwich:
    """The losses of Eqs. 1 and 5: the task's own for the largest network, then L_OD for a random and the smallest subnet.

    Each is back-propagated before the next is computed, so that memory is that of the largest network. The paper says both
    "attentively sampled" and "randomly sample": here each width and each depth is drawn uniformly.

    Args:
        lesson: L_OD.
        seed: of the random subnets, which depend on it and on the step alone: all processes train the same.
    """

    def __init__(
        self,
        supernet: Supernet,
        space: Space,
        lesson: DistillationLoss,
        config: SpaceConfig,
        *,
        seed: int,
    ) -> None:
        self.supernet, self.space, self.lesson, self.config, self.seed = supernet, space, lesson, config, seed
        self.smallest = self._subnet(space.smallest())

    def updates(self, of_task: list[Update]) -> list[Update]:
        """The task's updates, with the subnets' losses among those of its generator."""
        generation = next(update for update in of_task if update.name == "G")
        largest = generation.losses

        def losses(context: Any) -> Iterator[dict[str, Tensor]]:
            yield from largest(context)  # Eq. 4
            source = context.batch["unlabelled"] if self.config.search_unlabelled else context.input
            yield from self._taught(as_tuple(source), context.step)  # Eq. 5

        generation.losses = losses
        return of_task

    def _taught(self, inputs: tuple[Tensor, ...], step: int) -> Iterator[dict[str, Tensor]]:
        with torch.no_grad():
            wanted = self.lesson.look(self.supernet(*inputs))
        for name, subnet in (("random", self._subnet(self.random(step))), ("smallest", self.smallest)):
            made = self.lesson.look(self.supernet(*inputs, subnet=subnet))
            losses = self.lesson.losses(made, wanted)
            yield {f"{name}_{term}": self.config.subnet_weight * loss for term, loss in losses.items()}

    def random(self, step: int) -> np.ndarray:
        """(groups,) the widths of a step's random subnet."""
        return self.space.random(np.random.default_rng([self.seed, step]))

    def _subnet(self, widths: np.ndarray) -> Subnet:
        return self.supernet.subnet(self.space.plan(self.supernet.channels, widths))
