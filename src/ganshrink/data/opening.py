"""From settings to an open data set that has been checked."""

import logging
from collections.abc import Callable, Mapping, Sequence

from ganshrink.data.config import DataConfig, Split
from ganshrink.data.facades import SyntheticFacades
from ganshrink.data.images import Images, check
from ganshrink.data.labelled import LabelledImages
from ganshrink.data.latents import Latents
from ganshrink.data.paired import PairedImages
from ganshrink.data.photos import Photos
from ganshrink.data.splits import split_taken
from ganshrink.data.tensors import Subset
from ganshrink.data.unlabelled import InputFolder, InputsAlone, joined, labelled_indices
from ganshrink.data.unpaired import UnpairedImages
from ganshrink.system.own import call, chosen

logger = logging.getLogger(__name__)

DATASETS: Mapping[str, Callable[[DataConfig, str], Images]] = {
    "facades-synthetic": SyntheticFacades,
    "paired": PairedImages,
    "unpaired": UnpairedImages,
    "labelled": LabelledImages,
    "photos": Photos,
    "latents": Latents,
}
_SHOWN = 5  # problems quoted in the error; `check` gives all


def open_dataset(config: DataConfig, split: Split = "train", *, checked: bool = True) -> Images:
    """Open a data set and check it (see `check`). Of the training pairs these are the ones that keep their targets, all of
    them unless `label_fraction` says less.

    What MODULE:NAME names, a class or function, is called with the config and the split.

    Args:
        checked: false for what was checked before: images are then not decoded.

    Raises:
        FileNotFoundError: a folder is missing; the message names the path tried and how to set it.
        ValueError: the data cannot be used; the message gives the first few problems and their count. No data set of
            this name.
    """
    dataset = _opened(config, split)
    if checked:
        _refuse(check(dataset), split)
    if split != "train":
        return dataset
    kept = _labelled(dataset, config)
    return dataset if len(kept) == len(dataset) else Subset(dataset, kept)


def open_unlabelled(config: DataConfig, *, checked: bool = True) -> Images | None:
    """The inputs to train on that have no target: of the pairs that `label_fraction` leaves out, and in the folder
    `unlabelled`, which is checked. None where there are neither.

    The pairs themselves are checked by `open_dataset`, not again here: there may be thousands to decode.

    Raises:
        FileNotFoundError, ValueError: as `open_dataset`.
    """
    folder = None
    if config.unlabelled is not None:
        folder = InputFolder(config)
        if checked:
            _refuse(check(folder), "unlabelled")
    return joined(_without_labels(config), folder)


def _without_labels(config: DataConfig) -> Images | None:
    if config.label_fraction == 1:
        return None
    dataset = _opened(config, "train")
    kept = set(_labelled(dataset, config))
    rest = [index for index in range(len(dataset)) if index not in kept]
    return InputsAlone(Subset(dataset, rest)) if rest else None


def _opened(config: DataConfig, split: Split) -> Images:
    make = chosen("data", config.name, DATASETS)
    if config.name in DATASETS:
        taken = split_taken(config, split)
        if taken != split:
            logger.info("these data have no %s images: their %s images are taken", split, taken)
        return make(config, taken)
    dataset = call(config.name, make, config, split)
    if not isinstance(dataset, Images):
        raise ValueError(
            f"{config.name} must make a data set (see ganshrink.data.Images), got {type(dataset).__name__}"
        )
    return dataset


def _labelled(dataset: Images, config: DataConfig) -> list[int]:
    return labelled_indices(len(dataset), config.label_fraction, seed=config.label_seed)


def _refuse(problems: Sequence[str], which: str) -> None:
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        plural = "problem" if len(problems) == 1 else "problems"
        raise ValueError(
            f"{len(problems)} {plural} in the {which} images: {'; '.join(problems[:_SHOWN])}{more}"
        )
