"""What the data are: the typed settings of a data set, and how its folders are found.

Defaults are those of Pix2Pix (Isola et al. 2017, section 6.2): resize to 286, crop 256 at random, mirror.
"""

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from ganshrink.data.cityscapes import SCORED

Split = Literal["train", "val", "test"]
Size = tuple[PositiveInt, PositiveInt]

_FILES = {"in_channels", "out_channels", "white", "crop"}  # for what is read from files
_SCORED = {"num_classes", "void", "label_size", "label_ids"}  # for label maps
_FEW = {"label_fraction", "label_seed"}  # for pairs, whatever they are
_LATENTS = {"latent", "latents", "latent_seed", "truncation"}  # for vectors that nobody has to give
# Which of the settings here belong to some data sets of this package only; the rest apply to all, a user's own included,
# which adds others in a subclass.
_ONLY: dict[str, set[str]] = {
    "facades-synthetic": {"counts", "seed"} | _FEW,
    "paired": {"root", "a", "b", "unlabelled", "target_size", "split_seed", "partition", "labels"}
    | _SCORED
    | _FILES
    | _FEW,
    "unpaired": {"root", "a", "b", "split_seed", "partition"} | _FILES,
    "labelled": {
        "photos",
        "labels",
        "split_seed",
        "partition",
        "edges",
        "features",
        "encoder",
        "unlabelled",
        "white",
        "out_channels",
        "crop",
    }
    | _SCORED
    | _FEW,
    "photos": {"photos", "split_seed", "partition"} | _FILES,
    "latents": {"photos", "split_seed", "partition", "white", "out_channels"} | _LATENTS,
}
_JITTER = 286 / 256  # Pix2Pix, section 6.2


class Counts(BaseModel):
    """How many buildings each split of the synthetic data set has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: PositiveInt = Field(
        400, description="buildings to train on (as many as the CMP facades of Pix2Pix)"
    )
    val: PositiveInt = Field(100, description="buildings to select on")
    test: PositiveInt = Field(106, description="buildings to report on")


class DataConfig(BaseModel):
    """Settings of a data set. `open_dataset` opens it.

    A data set of one's own that has more settings declares them in a subclass, and names it as the type of its `config`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        "facades-synthetic",
        description="a data set of this package (see Data sets), or MODULE:NAME of your own, such as my_pkg.data:Dataset",
    )
    root: str | None = Field(
        None,
        description="paired: folder holding train/, val/, test/ with A|B files side by side, or the files themselves; "
        "unpaired: folder holding trainA/, trainB/, testA/, testB/",
    )
    a: str | None = Field(None, description='two folders: the A images, such as "{split}A"')
    b: str | None = Field(None, description='two folders: the B images, such as "{split}B"')
    photos: str | tuple[str, ...] | None = Field(
        None,
        description='the photos, such as "camvid/{split}"; name = "photos" and "latents" take several folders',
    )
    labels: str | None = Field(
        None,
        description='the label-id PNGs, such as "camvid/{split}annot": inputs of labelled data, and what miou is scored on, '
        "also of paired data",
    )
    label_ids: Literal["cityscapes"] | None = Field(
        None,
        description="cityscapes: the PNGs hold its 34 ids as they ship, and miou is scored on its 19 classes; inputs have "
        "num_classes = 20, these and one for all else, unless it is 35, all ids",
    )
    edges: bool = Field(
        False,
        description="labelled: the PNGs are Cityscapes' instanceIds, and the edges of instances become one channel more",
    )
    features: int | None = Field(
        None,
        ge=1,
        description="labelled: so many channels more, features of instances (pix2pixHD has 3): zeros that a task's encoder "
        "fills while it is trained (task.features), or what `encoder` makes of each photo",
    )
    encoder: str | None = Field(
        None,
        description="labelled: the run that trained an encoder of features, or its encoder.safetensors",
    )
    partition: str | None = Field(
        None,
        description="of folders whose names hold no {split}: a text file with a name and a number in each line, 0 to train "
        "on, 1 for val, 2 for test, such as CelebA's list_eval_partition.txt; none: by split_seed",
    )
    split_seed: int = Field(
        0,
        ge=0,
        description="of folders whose names hold no {split} a tenth of the files is scored and not trained on, by a hash of "
        "their names: which tenth",
    )
    size: int | Size = Field(256, description="what the network sees: one side, or [height, width]")
    load_size: int | Size | Literal["native"] | None = Field(
        None,
        description="resize to this, then crop at random to `size`; none: size * 286/256; the same as size: no crop; "
        '"native": never resize, crop pictures as they are (scores then see their middle)',
    )
    crop: int | Size | None = Field(
        None,
        description="so many pixels in the middle of each picture are all that is used of it, before it is resized: 178 for "
        "CelebA's aligned faces of 178 x 218; none: all",
    )
    target_size: int | Size | None = Field(
        None,
        description="paired: size of the targets where it is another than `size`, a whole multiple or part of it: for "
        "super-resolution x4 size = 64, target_size = 256; none: size",
    )
    in_channels: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="channels of input pictures: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; any other count from "
        ".npy files; none: 3",
    )
    out_channels: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="channels of target pictures, or of what the generator makes; none: 3",
    )
    white: float | None = Field(
        None,
        gt=0,
        description="the value of white in files of more than 8 bits: 4095 for 12 bits stored in 16; none: 65535, and 1 "
        "in floating-point files",
    )
    flip: bool = Field(True, description="mirror half of the training pairs")
    direction: Literal["AtoB", "BtoA", "both"] = Field(
        "AtoB",
        description="which half is the input (synthetic: A is the label map, B the photo); "
        "both: a student for each, with task cyclegan",
    )
    num_classes: int | None = Field(
        None, ge=2, le=1024, description="classes in the label maps, void included where it has a channel"
    )
    void: int | None = Field(
        None, ge=0, description="the channel of pixels without a class; ids out of range and 255 go there"
    )
    label_size: int | Size | None = Field(
        None, description="size of the label maps that segmentation is scored on; none: size"
    )
    label_fraction: float = Field(
        1.0,
        description='pairs: the share of the training images that may be used with their targets, such as "25%" or 0.25; '
        "the others are inputs alone",
    )
    label_seed: int = Field(
        0, ge=0, description="which images these are; smaller shares are part of larger ones"
    )
    unlabelled: str | None = Field(
        None,
        description='paired, labelled: a folder of more inputs without targets to train on, such as "{split}More": '
        "pictures of the input side, or label-id PNGs",
    )
    latent: int | None = Field(
        None, ge=1, description="latents: numbers in the vector that an image is made of; none: 128"
    )
    latents: int | None = Field(
        None, ge=1, description="latents: on how many vectors networks are scored; none: as many as photos"
    )
    latent_seed: int = Field(0, ge=0, description="latents: which vectors these are")
    truncation: float | None = Field(
        None,
        gt=0,
        description="latents: where networks are scored, numbers farther than this from 0 are drawn again, such as 1: "
        "images vary less; none: all numbers, as in training",
    )
    counts: Counts = Field(
        Counts(train=400, val=100, test=106), description="facades-synthetic: buildings per split"
    )
    seed: int = Field(0, ge=0, description="facades-synthetic: which city is drawn")

    @field_validator("root", "a", "b", "photos", "labels", "unlabelled", "encoder", mode="before")
    @classmethod
    def _is_a_path(cls, given: Any) -> Any:
        if isinstance(given, list | tuple):
            return [str(path) if isinstance(path, Path) else path for path in given]
        return str(given) if isinstance(given, Path) else given

    @field_validator("label_fraction", mode="before")
    @classmethod
    def _is_a_share(cls, given: Any) -> float:
        text = str(given).strip()
        try:
            share = Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
            if 0 < share <= 1:
                return float(share)
        except InvalidOperation:
            pass
        raise ValueError('a share is written as "25%", or as a number above 0 and at most 1')

    @model_validator(mode="before")
    @classmethod
    def _knows_its_classes(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("label_ids") != "cityscapes":
            return given
        given = {**given, "num_classes": given.get("num_classes") or SCORED + 1}
        return given if given.get("void") is not None else {**given, "void": given["num_classes"] - 1}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for key in sorted(self._others()):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} does not apply to name = {self.name!r}: remove it")
        if self.name in ("paired", "unpaired"):
            self._check_folders()
        if self.name == "labelled":
            if isinstance(self.photos, tuple):
                raise ValueError("labelled data have one folder of photos, not several")
            if self.photos is None:
                raise ValueError("labelled data need photos")
        if self.encoder is not None and self.features is None:
            raise ValueError("encoder makes features: say how many, such as features = 3")
        height, width = self.height_width
        if self.features is not None and (height % 16 or width % 16 or height * width == 16 * 16):
            raise ValueError(
                f"size = {self.size}: with features sides must be multiples of 16, not both of them 16"
            )
        if self.name == "labelled" or self.labels is not None:
            self._check_labels()
        elif self.name == "paired" and (
            stray := [key for key in sorted(_SCORED) if getattr(self, key) is not None]
        ):
            raise ValueError(f"{stray[0]} is for label maps: give labels, their folder, or remove it")
        if self.name in ("photos", "latents") and not self.photos:
            raise ValueError(f"{self.name} need photos, the folder that holds them")
        if self.name in ("labelled", "photos", "latents") and self.direction != "AtoB":
            raise ValueError(f"{self.name} data go one way: remove direction")
        if self.direction == "both" and self.name in _ONLY and self.name != "unpaired":
            raise ValueError(f"direction = 'both' needs unpaired data, these are {self.name}")
        self._check_sizes()
        return self

    def _others(self) -> set[str]:
        """The settings that belong to other kinds of data alone."""
        mine = _ONLY.get(self.name)
        return set() if mine is None else set[str]().union(*_ONLY.values()) - mine

    def _check_folders(self) -> None:
        if (self.root is None) == (self.a is None and self.b is None):
            inside = "A|B files side by side" if self.name == "paired" else "trainA, trainB, ..."
            raise ValueError(f"{self.name} data need either root ({inside}) or a and b (two folders)")
        if (self.a is None) != (self.b is None):
            raise ValueError(f"{self.name} data in two folders need both a and b")

    def _check_labels(self) -> None:
        for key in ("labels", "num_classes"):
            if getattr(self, key) is None:
                raise ValueError(f"{self.name} data need {key}")
        if self.void is not None and self.num_classes is not None and self.void >= self.num_classes:
            raise ValueError(
                f"void = {self.void} is outside the {self.num_classes} channels: num_classes counts void too"
            )
        if self.label_ids == "cityscapes" and (self.num_classes, self.void) not in ((20, 19), (35, 34)):
            raise ValueError(
                f"label_ids = 'cityscapes' goes with num_classes = 20 (and void = 19) or 35 (and 34), got {self.num_classes}"
            )

    def _check_sizes(self) -> None:
        sizes = {
            "size": self.height_width,
            "load_size": self.load_height_width,
            "target_size": self.target_height_width,
        }
        if self.crop_height_width is not None:
            sizes["crop"] = self.crop_height_width
        for key, (height, width) in sizes.items():
            if not (8 <= height <= 8192 and 8 <= width <= 8192):
                raise ValueError(f"{key} = {height} x {width}: each side must be 8 to 8192 pixels")
        (height, width), (load_height, load_width) = self.height_width, self.load_height_width
        if load_height < height or load_width < width:
            raise ValueError(
                f"load_size {load_height} x {load_width} is smaller than size {height} x {width}: "
                "the crop would not fit"
            )
        if self.crop is not None and (self.native or self.target_size is not None):
            other = 'load_size = "native"' if self.native else "target_size"
            raise ValueError(f"crop is for pictures that are resized to one size: remove it, or {other}")
        for have, want in zip(self.height_width, self.target_height_width, strict=True):
            if have % want and want % have:
                raise ValueError(
                    f"target_size {want} is no whole multiple or part of size {have}: crops of both would not fit each other"
                )
        if load_height % self.step[0] or load_width % self.step[1]:
            raise ValueError(
                f"load_size {load_height} x {load_width} must be a multiple of {self.step[0]} x {self.step[1]}, by which "
                "targets are smaller"
            )
        if self.native and self.label_size is not None:
            raise ValueError(
                'label_size is a size to resize to, load_size = "native" resizes nothing: remove one'
            )

    @property
    def height_width(self) -> tuple[int, int]:
        """(H, W) of what the network sees."""
        return _sides(self.size)

    @property
    def load_height_width(self) -> tuple[int, int]:
        """(H, W) before the random crop; where pictures are not resized, the least that they may have."""
        if self.load_size is None:
            (height, width), (by_height, by_width) = self.height_width, self.step
            return round(height * _JITTER / by_height) * by_height, round(
                width * _JITTER / by_width
            ) * by_width
        if self.load_size == "native":
            return self.height_width
        return _sides(self.load_size)

    @property
    def native(self) -> bool:
        """Whether pictures are cropped as they are."""
        return self.load_size == "native"

    @property
    def least(self) -> tuple[int, int]:
        """(H, W) that a picture must have."""
        return self.height_width if self.native else self.crop_height_width or (0, 0)

    @property
    def crop_height_width(self) -> tuple[int, int] | None:
        """(H, W) that are cut out of the middle of a picture before it is resized; None: it is taken whole."""
        return None if self.crop is None else _sides(self.crop)

    @property
    def target_height_width(self) -> tuple[int, int]:
        """(H, W) of the targets."""
        if self.target_size is None:
            return self.height_width
        return _sides(self.target_size)

    @property
    def step(self) -> tuple[int, int]:
        """By how many times the targets are smaller, in height and width; 1 where they are not."""
        pairs = zip(self.height_width, self.target_height_width, strict=True)
        height, width = (max(1, have // want) for have, want in pairs)
        return height, width

    @property
    def label_height_width(self) -> tuple[int, int]:
        """(H, W) of the label maps that metrics see."""
        if self.label_size is None:
            return self.height_width
        return _sides(self.label_size)

    def relevant(self) -> dict[str, Any]:
        """The settings that decide what a sample of the pairs is, JSON-ready, sizes resolved; not which of them are used."""
        # Those of later versions count where they are set: what earlier ones made is not made again.
        late = _FILES | _LATENTS | {"target_size", "label_ids", "edges", "partition", "features", "encoder"}
        beside = (
            {key for key in late if not getattr(self, key)}
            | {"label_size", "unlabelled", "split_seed"}
            | _FEW
        )
        if self.name == "paired":
            beside |= _SCORED | {"labels"}
        settings = self.model_dump(mode="json", exclude=beside | self._others())
        load = "native" if self.native else list(self.load_height_width)
        return settings | {"size": list(self.height_width), "load_size": load}


def _sides(size: int | Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
