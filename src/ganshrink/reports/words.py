"""Metrics in plain words; the name that recipes and files have for them stands beside or behind these."""

import re
from collections.abc import Iterable
from typing import Any

METRICS = {
    "psnr": "Likeness to the target, pixel by pixel",
    "ssim": "Likeness to the target, in structure",
    "psnr_y": "Likeness to the target, in brightness",
    "ssim_y": "Likeness to the target, in structure of brightness",
    "psnr_teacher": "Likeness to the teacher's picture, pixel by pixel",
    "ssim_teacher": "Likeness to the teacher's picture, in structure",
    "st_lpips": "Difference that people see, from the target",
    "st_lpips_teacher": "Difference that people see, from the teacher's picture",
    "perceptual_teacher": "Difference in features, from the teacher's picture",
    "fid": "Distance from real pictures (FID)",
    "kid": "Distance from real pictures (KID)",
    "fd_squeezenet": "Distance from real pictures, by their statistics",
    "kd_squeezenet": "Distance from real pictures, by their kernels",
    "swd_squeezenet": "Distance from real pictures, by their slices",
    "fd_squeezenet_teacher": "Distance from the teacher's pictures, by their statistics",
    "kd_squeezenet_teacher": "Distance from the teacher's pictures, by their kernels",
    "miou": "Things recognised where they belong (mean IoU)",
    "flicker": "Flicker when the picture moves",
    "checkerboard": "Checkerboard on smooth pictures",
}


def in_words(name: str) -> str:
    """A metric in plain words; one of the user's own by its name."""
    return METRICS.get(name, name)


def explained(text: str, names: Iterable[str]) -> Any:
    """Text as HTML in which each name of a metric says on hover what it means."""
    from markupsafe import Markup, escape

    known = sorted((name for name in names if name in METRICS), key=len, reverse=True)
    if not known:
        return escape(text)
    parts = re.split(rf"\b({'|'.join(map(re.escape, known))})\b", text)
    return Markup("").join(
        Markup('<abbr title="{}">{}</abbr>').format(METRICS[part], part) if place % 2 else part
        for place, part in enumerate(parts)
    )
