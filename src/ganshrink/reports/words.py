"""Metrics in plain words; the name that recipes and files have for them stands beside or behind these."""

import re
from typing import Any, NamedTuple

from ganshrink.reports.numbers import score


class Words(NamedTuple):
    """A metric as a label, inside of a sentence, and its unit."""

    label: str
    phrase: str
    unit: str = ""


METRICS = {
    "psnr": Words("Likeness to the target, pixel by pixel", "likeness pixel by pixel", "dB"),
    "ssim": Words("Likeness to the target, in structure", "likeness in structure"),
    "psnr_y": Words("Likeness to the target, in brightness", "likeness in brightness", "dB"),
    "ssim_y": Words(
        "Likeness to the target, in structure of brightness", "likeness in structure of brightness"
    ),
    "psnr_teacher": Words(
        "Likeness to the teacher's picture, pixel by pixel", "likeness to the teacher's pixel by pixel", "dB"
    ),
    "ssim_teacher": Words(
        "Likeness to the teacher's picture, in structure", "likeness to the teacher's in structure"
    ),
    "st_lpips": Words("Difference that people see, from the target", "difference that people see"),
    "st_lpips_teacher": Words(
        "Difference that people see, from the teacher's picture",
        "difference that people see from the teacher's",
    ),
    "perceptual_teacher": Words(
        "Difference in features, from the teacher's picture", "difference in features from the teacher's"
    ),
    "fid": Words("Distance from real pictures (FID)", "distance from real pictures"),
    "kid": Words("Distance from real pictures (KID)", "distance from real pictures"),
    "fd_squeezenet": Words("Distance from real pictures, by their statistics", "distance from real pictures"),
    "kd_squeezenet": Words("Distance from real pictures, by their kernels", "distance from real pictures"),
    "swd_squeezenet": Words("Distance from real pictures, by their slices", "distance from real pictures"),
    "fd_squeezenet_teacher": Words(
        "Distance from the teacher's pictures, by their statistics", "distance from the teacher's pictures"
    ),
    "kd_squeezenet_teacher": Words(
        "Distance from the teacher's pictures, by their kernels", "distance from the teacher's pictures"
    ),
    "miou": Words(
        "Things recognised where they belong (mean IoU)", "things recognised where they belong", "%"
    ),
    "flicker": Words("Flicker when the picture moves", "flicker"),
    "checkerboard": Words("Checkerboard on smooth pictures", "checkerboard"),
}
NETWORKS = {
    "identity": "untouched input",
    "mean": "mean picture",
    "untrained": "untrained network",
    "scratch": "same size, no teacher",
    "int8": "student, INT8",
}
MACS = "multiply-accumulates: the arithmetic of one picture"


def in_words(name: str) -> str:
    """A metric in plain words; one of the user's own by its name."""
    return METRICS[name].label if name in METRICS else name


def in_a_sentence(name: str) -> str:
    """`likeness in structure (ssim)`."""
    return f"{METRICS[name].phrase} ({name})" if name in METRICS else name


def figure(name: str, value: float, *, like: float | None = None) -> str:
    """A metric's value with its unit: `14.69 dB`."""
    unit = METRICS[name].unit if name in METRICS else ""
    return f"{score(value, like=like)} {unit}".rstrip()


def explained(text: str) -> Any:
    """A sentence as HTML, in which metrics stand in words and have their names on hover, and MACs what they are."""
    from markupsafe import Markup, escape

    hovers = {in_a_sentence(name): (words.phrase, name) for name, words in METRICS.items()}
    hovers["MACs"] = ("MACs", MACS)
    parts = re.split(rf"({'|'.join(map(re.escape, hovers))})", text)
    return Markup("").join(
        Markup('<abbr title="{}">{}</abbr>').format(*reversed(hovers[part])) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )
