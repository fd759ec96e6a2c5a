"""Which training images do what: labelled pairs, inputs without targets, and those that subnets are scored on."""

import logging
from dataclasses import dataclass

from ganshrink.data import Images, InputsAlone, Subset, joined
from ganshrink.data.images import is_paired, num_inputs
from ganshrink.methods.base import Job
from ganshrink.methods.ugc.config import UgcConfig

logger = logging.getLogger(__name__)

SHARE = 5  # at most one in so many is kept out of training


@dataclass(frozen=True)
class TrainingImages:
    """The training images of a job.

    Attributes:
        labelled: A of the paper, pairs.
        unlabelled: U, of which only inputs are read; the inputs of A where all images are labelled.
        held: kept out of both, to score subnets on; none without a search.
    """

    labelled: Images
    unlabelled: Images
    held: Images | None


def divided(job: Job, config: UgcConfig) -> TrainingImages:
    """Hold out images for a search: unlabelled ones, so that no label is lost; pairs where these are far too few.

    Raises:
        ValueError: if there are too few of both.
    """
    pairs, inputs = job.data, job.unlabelled
    source = pairs if inputs is None else inputs
    if not config.search:
        return TrainingImages(pairs, source, None)
    if not is_paired(pairs):
        logger.warning(
            "unpaired images have no samples to keep apart: subnets are scored on inputs that they train on"
        )
        return TrainingImages(
            pairs, source, _split(pairs, max(1, min(config.search_images, num_inputs(pairs) // SHARE)))[0]
        )
    available = len(pairs) + (0 if inputs is None else len(inputs))
    wanted = max(1, min(config.search_images, available // SHARE))
    spare = 0 if inputs is None else min(wanted, len(inputs) // SHARE)
    if inputs is not None and len(inputs) > 1 and len(pairs) < 2:
        spare = max(1, spare)  # the only pair is not for this
    held, left = (None, inputs) if inputs is None or not spare else _split(inputs, spare)
    if left is not None and (2 * spare >= wanted or (spare and len(pairs) < 2)):
        return TrainingImages(pairs, left, held)
    if len(pairs) < 2:
        raise ValueError(
            f"UGC keeps training images apart to compare subnets on, and there are only {available}: give at least 2 pairs, "
            "or 2 inputs without targets"
        )
    more, rest = _split(pairs, min(wanted - spare, max(1, len(pairs) // SHARE)))
    return TrainingImages(rest, rest if left is None else left, joined(held, InputsAlone(more)))


def _split(images: Images, count: int) -> tuple[Subset, Subset]:
    """So many images, spread over the set, and the others."""
    available = num_inputs(images)
    places = {index * available // count for index in range(count)}
    rest = Subset(images, [index for index in range(len(images)) if index not in places])
    return Subset(images, sorted(places)), rest
