"""What a metric takes and what it gives: pictures as they would be saved, and a number with its protocol.

No number leaves this package without the split, the count, the size and the networks it was measured with.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

Protocolled = str | int | float
Better = Literal["higher", "lower"]
Kind = Literal["fake", "target", "teacher"]
T = TypeVar("T")

QUANTISATION = "rounded to uint8"


@dataclass(frozen=True)
class Value:
    """One measured number: `value`, which direction is `better`, and the `protocol` it was measured by."""

    value: float
    better: Better
    protocol: dict[str, Protocolled]

    def to_json(self) -> dict[str, Any]:
        """The value as plain JSON types, as `metrics.json` holds it."""
        return asdict(self)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1], any shape, as a saved picture holds them: clipped and rounded to 0..255.

    Rounding, not truncating as the field's `tensor2im` does: a picture read from a file and scaled to [-1, 1]
    comes back unchanged, and nothing is darkened by half a level on average.

    Raises:
        ValueError: a value is NaN or infinite; it would silently become black or white.
    """
    if images.dtype == torch.uint8:
        return images
    if not torch.isfinite(images).all():
        raise ValueError("an image to score holds NaN or infinite values: its network has diverged")
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


@dataclass
class Pictures:
    """One batch to score: images are float (N, 3, H, W) in [-1, 1], `labels` int64 (N, h, w) class ids."""

    fake: Tensor
    target: Tensor
    labels: Tensor | None = None
    teacher: Tensor | None = None
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for kind in ("target", "teacher"):
            other = getattr(self, kind)
            if other is not None and other.shape != self.fake.shape:
                raise ValueError(
                    f"the generated batch is {tuple(self.fake.shape)} but the {kind} batch "
                    f"{tuple(other.shape)}: they must be of one shape (N, 3, H, W)"
                )
        if self.fake.ndim != 4 or self.fake.shape[1] != 3:
            raise ValueError(f"images to score must be (N, 3, H, W), got {tuple(self.fake.shape)}")

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """`make()`, computed once for this batch however many metrics ask for `key`."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def saved(self, kind: Kind) -> Tensor:
        """The pictures of that kind as uint8 (N, 3, H, W); ValueError when the batch has none."""
        images = getattr(self, kind)
        if images is None:
            raise ValueError(f"this metric compares with the {kind}, and the batch has none: pass a {kind}")
        return self.once(("saved", kind), lambda: to_uint8(images))


class Metric(Protocol):
    """A streaming measure: `update` with every batch, then `compute`. `reset` forgets everything seen."""

    name: str
    needs: frozenset[str]  # of {"labels", "teacher"}: what a batch must hold besides fake and target

    def reset(self) -> None: ...

    def update(self, batch: Pictures) -> None: ...

    def compute(self) -> Value: ...


@dataclass
class Seen:
    """How many images of which size a metric was given: the part of the protocol that every metric counts."""

    split: str
    images: int = 0
    size: str = ""

    def add(self, images: Tensor) -> None:
        """Count a batch (N, 3, H, W)."""
        height, width = images.shape[-2:]
        size = f"{width}x{height}"
        self.size = size if self.size in ("", size) else "mixed"
        self.images += len(images)

    def protocol(self, name: str, *, least: int = 1) -> dict[str, Protocolled]:
        """The protocol of a value; ValueError when fewer than `least` images were seen."""
        if self.images < least:
            raise ValueError(f"{name} needs at least {least} image(s), got {self.images}: score more images")
        seen: dict[str, Protocolled] = {"split": self.split, "images": self.images, "size": self.size}
        return {**seen, "quantisation": QUANTISATION}
