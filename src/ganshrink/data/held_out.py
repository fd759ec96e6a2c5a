"""Which training images do what where labels are few: pairs, inputs without targets, and those kept apart to score on."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ganshrink.data.images import Images, is_paired, num_inputs
from ganshrink.data.passes import all_batches, spread_indices
from ganshrink.data.splits import HELD
from ganshrink.data.tensors import Subset
from ganshrink.data.unlabelled import InputsAlone, joined

logger = logging.getLogger(__name__)

SHARE = 5  # at most one in so many is kept out of training


@dataclass(frozen=True)
class TrainingImages:
    """The training images of a job.

    Attributes:
        labelled: pairs.
        unlabelled: of which only inputs are read; the inputs of the pairs where there are no others.
        held: inputs kept out of both, to score networks on; empty where none were asked for.
    """

    labelled: Images
    unlabelled: Images
    held: Images

    def held_batches(self, batch_size: int = 8) -> Iterator[dict[str, Any]]:
        """What was kept apart, as `evaluate` takes it: inputs, and the label maps that come with them, but no targets."""
        for batch in all_batches(self.held, batch_size):
            yield {key: value for key, value in batch.items() if key != "target"} | {"paired": False}

    def target_batches(self, batch_size: int = 8) -> Iterator[Tensor]:
        """The targets (B, C, H, W) of the labelled images."""
        return (batch["target"] for batch in all_batches(self.labelled, batch_size) if "target" in batch)


def divide(pairs: Images, inputs: Images | None, count: int) -> TrainingImages:
    """Keep `count` images apart, at most a fifth: unlabelled ones, so that no label is lost; pairs where these are too few.

    Args:
        pairs: the labelled images, or unpaired ones.
        inputs: images without targets; none: there are none.
        count: how many to keep apart; 0: none.

    Raises:
        ValueError: if there are too few of both.
    """
    source = pairs if inputs is None else inputs
    if not count:
        return TrainingImages(pairs, source, Subset(source, []))
    if not is_paired(pairs):
        logger.warning(
            "unpaired images have no samples to keep apart: networks are scored on inputs that they train on"
        )
        return TrainingImages(pairs, source, _split(pairs, max(1, min(count, num_inputs(pairs) // SHARE)))[0])
    available = len(pairs) + (0 if inputs is None else len(inputs))
    wanted = max(1, min(count, available // SHARE))
    spare = 0 if inputs is None else min(wanted, len(inputs) // SHARE)
    if inputs is not None and len(inputs) > 1 and len(pairs) < 2:
        spare = max(1, spare)  # the only pair is not for this
    held, left = (None, inputs) if inputs is None or not spare else _split(inputs, spare)
    if held is not None and left is not None and (2 * spare >= wanted or len(pairs) < 2):
        return TrainingImages(pairs, left, held)
    if len(pairs) < 2:
        raise ValueError(
            f"training images are kept apart to compare networks on, and there are only {available}: give at least 2 pairs, "
            "or 2 inputs without targets"
        )
    more, rest = _split(pairs, min(wanted - spare, max(1, len(pairs) // SHARE)))
    apart = InputsAlone(more)
    return TrainingImages(rest, rest if left is None else left, joined(held, apart) or apart)


def apart(images: Images, *, seed: int) -> tuple[Subset, Subset]:
    """The images without a tenth of them, drawn by the seed, and those.

    Raises:
        ValueError: if there are fewer than two, or they are unpaired, so that a sample's partner is any image.
    """
    if not is_paired(images) and images.in_channels:  # of latent vectors a sample is a photo, and any vector
        raise ValueError(
            "validate_every: these unpaired images have no split val to score on, and no pairs to keep apart: add the "
            "folders valA and valB, or leave validate_every out"
        )
    if len(images) < 2:
        raise ValueError(f"validate_every keeps images out of training, and there are only {len(images)}")
    drawn = np.random.default_rng(seed).permutation(len(images)).tolist()
    count = math.ceil(len(images) / HELD)
    return Subset(images, sorted(drawn[count:])), Subset(images, sorted(drawn[:count]))


def _split(images: Images, count: int) -> tuple[Subset, Subset]:
    """So many images, spread over the set, and the others."""
    places = spread_indices(num_inputs(images), count)
    rest = sorted(set(range(len(images))) - set(places))
    return Subset(images, places), Subset(images, rest)
