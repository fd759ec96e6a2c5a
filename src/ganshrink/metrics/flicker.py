"""Flicker on synthetic pans: what shimmers in a video although only the camera moves.

Each input picture is moved to the right a pixel at a time; what the generator makes of the frames is moved back, and each is
compared with the one before. A generator that commutes with shifts scores 0. Its teacher's value is what to compare with.
"""

import torch
from torch import Tensor

from ganshrink.losses.shift_consistency import MARGIN, moved
from ganshrink.metrics.mean import MeanOverImages
from ganshrink.metrics.resampling import mean_of
from ganshrink.metrics.value import Listed, Pictures, Setup, to_uint8

STEPS = 4  # as many as two halvings have phases


def flicker(batch: Pictures) -> Tensor:
    """Mean |difference| (N,) of frames in levels of 255, over channels, pixels and steps.

    Raises:
        ValueError: the batch has no single input picture, or no generator.
    """
    if batch.inputs is None or len(batch.inputs) != 1 or batch.generator is None:
        raise ValueError("flicker moves the input: a batch needs one picture as its input, and the generator")
    [picture] = batch.inputs
    fake = batch.saved("fake")
    height, width = fake.shape[-2:]
    top, side = height // MARGIN, max(width // MARGIN, STEPS * batch.scale)
    frames = []
    for step in range(STEPS + 1):
        again = batch.generator((moved(picture, step, 0),)) if step else None
        made = fake if again is None else to_uint8(again, truncate=batch.truncate)
        at = side + step * batch.scale
        frames.append(made[..., top : height - top, at : at + width - 2 * side].double())
    return torch.stack(
        [(b - a).abs().mean(dim=(1, 2, 3)) for a, b in zip(frames, frames[1:], strict=False)]
    ).mean(dim=0)


def _flicker(setup: Setup) -> MeanOverImages:
    return MeanOverImages(
        "flicker",
        flicker,
        against=None,
        needs=frozenset({"pictures"}),
        better="lower",
        split=setup.split,
        details={"pan": f"{STEPS} steps of one input pixel to the right", "margin": f"1/{MARGIN} of a side"},
    )


FLICKER = Listed(
    _flicker, "lower", "pictures", "levels by which outputs change when the input moves by a pixel", mean_of
)
