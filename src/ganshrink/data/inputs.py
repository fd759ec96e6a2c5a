"""What a generator eats, small enough to travel in a weights file, and a user's picture turned into it."""

import colorsys
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from ganshrink.data import cityscapes
from ganshrink.data.config import DataConfig
from ganshrink.data.instance_features import ClassMeans, class_means
from ganshrink.data.pictures import convert_labels, printable, read_labels, to_tensor
from ganshrink.data.pixels import PictureReader, as_picture
from ganshrink.data.views import View, view_image, view_labels

LATENT = 128  # numbers in a latent vector
IGNORED_ID = 255  # the id that most label sets give to pixels nobody labelled


class InputSpec(BaseModel):
    """A generator's input. `model_dump_json` and `model_validate_json` carry it through a weights file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image", "labels", "latent"] = Field(
        "image",
        description="image: pictures in [-1, 1]; labels: one-hot 0/1; latent: vectors of normal numbers",
    )
    channels: PositiveInt = Field(
        3,
        description="channels of the input tensor; labels: classes, and edges and features of instances where there are; "
        "latent: numbers in a vector",
    )
    size: tuple[PositiveInt, PositiveInt] = Field(
        description="height and width it was trained at; latent: of images"
    )
    void: int | None = Field(None, description="labels: the channel of pixels without a class")
    label_ids: Literal["cityscapes"] | None = Field(None, description="labels: what a map's numbers are")
    edges: bool = Field(
        False, description="labels: whether maps hold instances, whose edges are a channel behind the classes"
    )
    features: ClassMeans | None = Field(
        None,
        description="labels: for each class the features that a map without a photo has, in the last channels",
    )
    white: float | None = Field(
        None,
        description="image: the value of white in files of more than 8 bits; none: the largest of their type",
    )

    @property
    def classes(self) -> int:
        """labels: the channels that are classes."""
        return self.channels - self.edges - self.num_features

    @property
    def num_features(self) -> int:
        """labels: the channels that are features."""
        return len(self.features[0]) if self.features else 0


class _Described(Protocol):
    in_channels: int
    size: tuple[int, int]


def input_spec(source: "DataConfig | _Described") -> InputSpec:
    """The input of a generator trained on this data set (an open one, or its settings)."""
    if isinstance(source, DataConfig):
        if source.name == "labelled":
            assert source.num_classes is not None
            return InputSpec(
                kind="labels",
                channels=source.num_classes + source.edges + (source.features or 0),
                size=source.height_width,
                void=source.void,
                label_ids=source.label_ids,
                edges=source.edges,
                features=_mean_features(source, source.num_classes),
            )
        if source.name == "latents":
            return InputSpec(kind="latent", channels=source.latent or LATENT, size=source.height_width)
        return InputSpec(channels=source.in_channels or 3, size=source.height_width, white=source.white)
    spec = getattr(source, "spec", None)
    if isinstance(spec, InputSpec):
        return spec
    if not source.in_channels:
        raise ValueError(
            "these data have no picture as input, which is needed here: vectors are for Python alone"
        )
    return InputSpec(kind="image", channels=source.in_channels, size=source.size, void=None)


def _mean_features(config: DataConfig, classes: int) -> ClassMeans | None:
    """Of each class; zero where the encoder is yet to be trained.

    Raises:
        FileNotFoundError, ValueError: if there is no such encoder, or it has other features or classes.
    """
    if config.features is None:
        return None
    if config.encoder is None:
        return ((0.0,) * config.features,) * classes
    means = class_means(config.encoder)
    if (len(means), len(means[0])) != (classes, config.features):
        raise ValueError(
            f"data.encoder was trained for {len(means)} classes and {len(means[0])} features, the data have {classes} and "
            f"{config.features}"
        )
    return means


def prepare(
    image: str | Path | Image.Image | np.ndarray,
    spec: InputSpec | DataConfig,
    *,
    size: tuple[int, int] | Literal["own"] | None = None,
) -> torch.Tensor:
    """A user's picture (or label-id map) as an input (channels, H, W), as in evaluation: no crop, no mirror.

    Args:
        image: a file, a Pillow image, or an array: uint8 (H, W, C) for images, integer (H, W) for labels.
        spec: what the generator eats.
        size: (H, W) of the result instead of the trained size; own: that of the picture.

    Raises:
        ValueError: the picture cannot be used; the message names the file and what is wrong.
    """
    spec = spec if isinstance(spec, InputSpec) else input_spec(spec)
    if spec.kind == "latent":
        raise ValueError("the generator takes latent vectors, not pictures")
    where = "the label map"
    if spec.kind == "labels":
        pixels, where = _label_ids(image)
    else:
        pixels = _pixels(image, spec)
    target = (pixels.shape[0], pixels.shape[1]) if size == "own" else size or spec.size
    view = View(target, target)
    if spec.kind == "labels":
        return label_input(view_labels(pixels, view), spec, where=where)
    return to_tensor(view_image(pixels, view))


def _pixels(image: str | Path | Image.Image | np.ndarray, spec: InputSpec) -> np.ndarray:
    read = PictureReader(spec.channels, spec.white)
    if isinstance(image, str | Path):
        return read(image)
    if isinstance(image, Image.Image):
        return read.convert(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"a picture is a uint8 array (H, W, 3), this is {image.dtype} {image.shape}")
    if image.shape[2:] == (spec.channels,):
        return image
    return read.convert(Image.fromarray(image))


def _label_ids(image: str | Path | Image.Image | np.ndarray) -> tuple[np.ndarray, str]:
    if isinstance(image, str | Path):
        return read_labels(image), printable(image)
    if isinstance(image, Image.Image):
        return convert_labels(image), "the label map"
    if image.ndim != 2 or image.dtype.kind not in "iu":
        raise ValueError(f"a label map is an integer array (H, W), this is {image.dtype} {image.shape}")
    return image.astype(np.int32), "the label map"


def label_input(numbers: np.ndarray, spec: InputSpec, *, where: str) -> torch.Tensor:
    """The input (channels, H, W) of a label map's numbers (H, W). Raises as `map_ids`."""
    ids = torch.from_numpy(class_ids(numbers, spec, where=where))
    planes = [one_hot(ids, spec.classes)]
    if spec.edges:
        planes.append(torch.from_numpy(cityscapes.edges(numbers)).float()[None])
    if spec.features is not None:
        planes.append(torch.tensor(spec.features)[ids].movedim(-1, 0))
    return torch.cat(planes) if len(planes) > 1 else planes[0]


def class_ids(numbers: np.ndarray, spec: InputSpec, *, where: str) -> np.ndarray:
    """The classes, int64, that a generator knows of a label map's numbers (H, W). Raises as `map_ids`."""
    ids = cityscapes.ids_of_instances(numbers) if spec.edges else numbers
    if spec.label_ids is not None and spec.classes == cityscapes.SCORED + 1:
        ids = cityscapes.train_ids(ids)
    return map_ids(ids, spec.classes, void=spec.void, where=where)


def scored_ids(numbers: np.ndarray, spec: InputSpec, *, where: str) -> np.ndarray:
    """The classes, int64, that metrics see of a label map's numbers (H, W). Raises as `map_ids`."""
    if spec.label_ids is None:
        return class_ids(numbers, spec, where=where)
    ids = cityscapes.ids_of_instances(numbers) if spec.edges else numbers
    return cityscapes.train_ids(ids).astype(np.int64)


def map_ids(ids: np.ndarray, num_classes: int, *, void: int | None, where: str) -> np.ndarray:
    """Class ids as int64 in [0, num_classes): unknown ids and 255 become `void` where it is declared.

    Raises:
        ValueError: an id out of range and no void channel; the message names the file and the id.
    """
    unknown = (ids < 0) | (ids >= num_classes) | ((ids == IGNORED_ID) & (void is not None))
    if not unknown.any():
        return ids.astype(np.int64)
    if void is None:
        raise ValueError(
            f"{where}: class id {int(ids[unknown][0])} is outside 0..{num_classes - 1}: raise num_classes, "
            "or declare a void channel (void = ID)"
        )
    return np.where(unknown, void, ids).astype(np.int64)


def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Class ids int64 (H, W) as float32 (num_classes, H, W): 1 where the pixel has the class, else 0."""
    planes = torch.zeros(num_classes, *labels.shape)
    return planes.scatter_(0, labels[None], 1.0)


def preview_input(tensor: torch.Tensor, spec: InputSpec | None = None) -> np.ndarray:
    """A person's view of one input (channels, H, W), uint8: the picture (see `as_picture`), or a colour per class."""
    if spec is not None and spec.kind == "labels":
        return class_colours(spec.classes, void=spec.void)[tensor[: spec.classes].argmax(0).cpu().numpy()]
    return as_picture(tensor)


def class_colours(num_classes: int, *, void: int | None = None) -> np.ndarray:
    """One colour per class, uint8 (num_classes, 3): hues a golden ratio apart; void is black."""
    colours = [
        colorsys.hsv_to_rgb(0.58 + 0.618034 * i, (0.45, 0.8, 0.6)[i % 3], (0.95, 0.8, 0.6)[i // 2 % 3])
        for i in range(num_classes)
    ]
    pixels = np.round(np.array(colours) * 255).astype(np.uint8)
    if void is not None:
        pixels[void] = 0
    return pixels
