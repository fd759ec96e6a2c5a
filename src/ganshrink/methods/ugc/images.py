"""Which training images do what: labelled pairs, inputs without targets, and those that subnets are scored on."""

import logging
from dataclasses import dataclass

from ganshrink.data import Images, Part
from ganshrink.data.images import is_paired, num_inputs
from ganshrink.job import Job
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
    """Hold out images for a search, spread over the unlabelled ones, or over all where none are unlabelled.

    Raises:
        ValueError: if there are too few.
    """
    source = job.data if job.unlabelled is None else job.unlabelled
    if not config.search:
        return TrainingImages(job.data, source, None)
    available = num_inputs(source)
    if available < 2:
        raise ValueError(
            f"UGC keeps a training image apart to compare subnets on, and there is only {available}: give at least 2"
        )
    count = max(1, min(config.search_images, available // SHARE))
    places = {index * available // count for index in range(count)}
    held = Part(source, sorted(places))
    if not is_paired(source):
        logger.warning(
            "unpaired images have no samples to keep apart: subnets are scored on inputs that they train on"
        )
        return TrainingImages(job.data, source, held)
    rest = Part(source, [index for index in range(len(source)) if index not in places])
    return TrainingImages(rest if job.unlabelled is None else job.data, rest, held)
