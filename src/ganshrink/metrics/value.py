"""What a metric takes and what it gives: pictures as they would be saved, and a number with its protocol.

No number leaves this package without the split, the count, the size and the networks it was measured with.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from ganshrink.metrics.resampling import FIXED, OfParts, Parts, interval

if TYPE_CHECKING:
    from ganshrink.metrics.config import MetricsConfig

Protocolled = str | int | float
Better = Literal["higher", "lower"]
Kind = Literal["fake", "target", "teacher"]
Against = Literal["target", "teacher"]
T = TypeVar("T")

AGAINST: dict[str, str] = {"target": "the target", "teacher": "the teacher's output"}

QUANTISATION, TRUNCATION = "rounded to uint8", "generated pictures truncated to uint8"

Reals = Literal["scored", "train", "all", "scored-stored", "train-stored", "all-stored"]
REALS: dict[str, str] = {"train": "training images", "all": "training images and those scored"}
REALS |= {
    f"{name}-stored": f"{said}, at the size of their files"
    for name, said in {"scored": "targets", **REALS}.items()
}


@dataclass(frozen=True)
class Value:
    """One measured number: `value`, which direction is `better`, and the `protocol` it was measured by; and within which
    `interval` 95 % of such values lie over drawn pictures, where the metric tells."""

    value: float
    better: Better
    protocol: dict[str, Protocolled]
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The value as plain JSON types, as `metrics.json` holds it."""
        found = {key: content for key, content in asdict(self).items() if content is not None}
        return found if self.interval is None else found | {"interval": list(self.interval)}


def to_uint8(images: Tensor, *, truncate: bool = False) -> Tensor:
    """Images in [-1, 1], any shape, as a saved picture holds them: clipped and rounded to 0..255.

    Rounding, not truncating as the field's `tensor2im` does: a picture read from a file and scaled to [-1, 1]
    comes back unchanged, and nothing is darkened by half a level on average. `truncate` does what the field does.

    Raises:
        ValueError: a value is NaN or infinite; it would silently become black or white.
    """
    if images.dtype == torch.uint8:
        return images
    if not torch.isfinite(images).all():
        raise ValueError("an image to score holds NaN or infinite values: its network has diverged")
    if truncate:
        return images.float().add(1).div(2).mul(255).clamp(0, 255).to(torch.uint8)
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def as_rgb(images: Tensor) -> Tensor:
    """Images (N, C, H, W) as a network for RGB takes them: grey is repeated.

    Raises:
        ValueError: for other counts of channels, of which no one knows what colours they are.
    """
    if images.shape[1] not in (1, 3):
        raise ValueError(
            f"a network that judges pictures takes 1 or 3 channels, these have {images.shape[1]}: leave out what needs it "
            "(psnr and ssim take any)"
        )
    return images.expand(-1, 3, -1, -1)


@dataclass
class Pictures:
    """One batch to score: images are float (N, C, H, W) in [-1, 1], `labels` int64 (N, h, w) class ids.

    With `paired` each image and the target beside it belong together. Unpaired batches may hold more of one than of
    the other, or one alone. With `truncate` what a generator made is truncated to uint8, not rounded. Fakes are what
    `generator` made of the `inputs`, where these are given.
    """

    fake: Tensor | None
    target: Tensor | None = None
    labels: Tensor | None = None
    teacher: Tensor | None = None
    paired: bool = True
    truncate: bool = False
    inputs: tuple[Tensor, ...] | None = None
    generator: Callable[[tuple[Tensor, ...]], Tensor] | None = None
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.fake is not None and self.fake.ndim != 4:
            raise ValueError(f"images to score must be (N, C, H, W), got {tuple(self.fake.shape)}")
        for kind in ("target", "teacher"):
            other = getattr(self, kind)
            if other is None or self.fake is None:
                continue
            start = 0 if self.paired or kind == "teacher" else 1  # unpaired targets may be fewer or more
            if other.shape[start:] != self.fake.shape[start:]:
                raise ValueError(
                    f"the generated batch is {tuple(self.fake.shape)} but the {kind} batch "
                    f"{tuple(other.shape)}: they must be of one shape (N, C, H, W)"
                )

    @property
    def scale(self) -> int:
        """How many times wider the fakes are than the first input that has a height and width; 1 where it is unknown."""
        wide = [tensor for tensor in self.inputs or () if tensor.ndim == 4]
        return max(self.fake.shape[-1] // wide[0].shape[-1], 1) if wide and self.fake is not None else 1

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """`make()`, computed once for this batch however many metrics ask for `key`."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def saved(self, kind: Kind) -> Tensor:
        """The pictures of that kind as uint8 (N, C, H, W); ValueError when the batch has none."""
        images = getattr(self, kind)
        if images is None:
            raise ValueError(f"this metric compares with the {kind}, and the batch has none: pass a {kind}")
        truncate = self.truncate and kind != "target"  # targets are read from files, and would lose a level
        return self.once(("saved", kind), lambda: to_uint8(images, truncate=truncate))

    def rgb(self, kind: Kind) -> Tensor:
        """As `saved`, for a network that judges colour pictures: (N, 3, H, W). Raises as `as_rgb`."""
        return as_rgb(self.saved(kind))


class Metric(Protocol):
    """A streaming measure: `update` with every batch, then `compute`. `reset` forgets everything seen.

    Two members are optional: `parts()`, what the value is made of (`Parts`; empty where that is too much to keep), and
    `of_parts`, which makes values of it (`OfParts`). With them a value has an interval, and networks are compared picture
    by picture.
    """

    name: str
    # Of {"target", "pairs", "labels", "teacher", "pictures"}: what a batch must hold besides fakes; "pairs" is a target for
    # each, "pictures" are inputs.
    needs: frozenset[str]

    def reset(self) -> None: ...

    def update(self, batch: Pictures) -> None: ...

    def compute(self) -> Value: ...


def parts_of(metric: Metric) -> dict[str, Tensor]:
    """What a metric's value is made of; nothing where it does not tell.

    Raises:
        ValueError: parts are of different numbers of pictures.
    """
    if not (hasattr(metric, "parts") and hasattr(metric, "of_parts")):
        return {}
    parts: dict[str, Tensor] = {name: part.detach().cpu() for name, part in metric.parts().items()}
    counts = {name: len(part) for name, part in parts.items() if not name.startswith(FIXED)}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{metric.name}: its parts are of different numbers of pictures: {counts}")
    return parts


def with_interval(value: Value, metric: Metric, parts: Parts) -> Value:
    """The value with its interval over pictures, if its metric can tell."""
    return replace(value, interval=interval(metric.of_parts, parts)) if parts else value  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Setup:
    """What a metric is made with: the settings of all metrics, the split that is scored, and where networks run."""

    config: "MetricsConfig"
    split: str
    device: str | torch.device = "cpu"
    _networks: dict[Any, Any] = field(default_factory=dict, repr=False)

    def network(self, load: Callable[[Path, str | torch.device], T], weights: Path) -> T:
        """A judging network: loaded once for all metrics over it, so that a batch passes through it once."""
        if load not in self._networks:
            self._networks[load] = load(weights, self.device)
        return self._networks[load]


@dataclass(frozen=True)
class Listed:
    """A metric as `METRICS` lists it.

    Attributes:
        make: the metric for a set-up.
        better: the better direction.
        needs: what images must hold besides inputs, as in `Metric.needs`.
        about: what it is, in a few words.
        of_parts: the metric's, if it has one.
    """

    make: Callable[[Setup], Metric]
    better: Better
    needs: Literal["target", "pairs", "labels", "teacher", "pictures"]
    about: str
    of_parts: OfParts | None = None

    def __call__(self, setup: Setup) -> Metric:
        return self.make(setup)


@dataclass
class Seen:
    """How many images of which size a metric was given: the part of the protocol that every metric counts."""

    split: str
    images: int = 0
    size: str = ""
    channels: int = 3
    targets: int | None = None  # where they are counted apart, being unpaired

    def add(self, images: Tensor) -> None:
        """Count a batch (N, C, H, W)."""
        height, width = images.shape[-2:]
        size = f"{width}x{height}"
        self.size = size if self.size in ("", size) else "mixed"
        self.images, self.channels = self.images + len(images), images.shape[1]

    def add_batch(self, batch: Pictures, kind: Kind | None) -> None:
        """Count a batch's fakes, and apart from them what of `kind` they are compared with where it is unpaired."""
        if batch.fake is not None:
            self.add(batch.fake)
        others = getattr(batch, kind) if kind else None
        if not batch.paired and kind == "target" and others is not None:
            self.targets = (self.targets or 0) + len(others)

    def count_reals(self, name: str, count: int) -> None:
        """Note with how many targets that are not of these batches they are compared; ValueError where there are none."""
        if not count:
            raise ValueError(f"{name} compares with training images (metrics.reals), and there are none here")
        self.targets = count

    def protocol(self, name: str, *, least: int = 1) -> dict[str, Protocolled]:
        """The protocol of a value; ValueError when fewer than `least` images were seen."""
        fewest = self.images if self.targets is None else min(self.images, self.targets)
        if fewest < least:
            raise ValueError(f"{name} needs at least {least} image(s), got {fewest}: score more images")
        seen: dict[str, Protocolled] = {"split": self.split, "images": self.images, "size": self.size}
        if self.channels != 3:
            seen["channels"] = self.channels
        if self.targets is not None:
            seen["targets"] = self.targets
        return {**seen, "quantisation": QUANTISATION}
