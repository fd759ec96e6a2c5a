"""A student at work: pictures in, pictures out."""

from collections import Counter
from pathlib import Path

import torch

from ganshrink.data import InputSpec, prepare, to_uint8, write_png
from ganshrink.data.pictures import SUFFIXES
from ganshrink.weights import load_network


def predict(student: Path, source: Path, target: Path) -> list[Path]:
    """Run a student on an image, or on every image of a folder.

    Args:
        student: a student.safetensors, or the folder of a run that holds one.
        source: an image (for a student that takes label maps: a PNG of label ids), or a folder of them.
        target: the PNG to write, or the folder to write PNGs of the same names into.

    Returns:
        what was written.

    Raises:
        FileNotFoundError: if the student or the source is not there.
        ValueError: if the student does not say what it takes, or an image cannot be read.
    """
    file = student / "student.safetensors" if student.is_dir() else student
    network, spec = load_network(file)
    if spec.input is None:
        raise ValueError(f"{file} does not say what pictures it takes")
    if not source.exists():
        raise FileNotFoundError(f"there is no image or folder {source}")
    if source.is_file():
        pairs = [(source, target / f"{source.stem}.png" if target.is_dir() else target)]
    else:
        found = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"there are no images in {source}")
        pairs = [(path, target / f"{path.stem}.png") for path in found]
    for name, count in Counter(written for _, written in pairs).items():
        if name.suffix.lower() != ".png":
            raise ValueError(f"{name}: pictures are written as PNG; name a .png file, or a folder")
        if count > 1:
            raise ValueError(f"{count} images in {source} would be written to {name}: rename them")
    for path, written in pairs:
        write_png(written, _picture(network, path, spec.input))
    return [written for _, written in pairs]


def _picture(network: torch.nn.Module, path: Path, spec: InputSpec):
    with torch.no_grad():
        return to_uint8(network(prepare(path, spec)[None])[0])
