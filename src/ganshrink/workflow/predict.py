"""A student at work: pictures in, pictures out."""

from collections import Counter
from pathlib import Path

import torch

from ganshrink.data import prepare, to_uint8, write_png
from ganshrink.data.folders import empty_folder
from ganshrink.data.pictures import SUFFIXES, printable
from ganshrink.workflow.saved_networks import Uncut, load_network, read_spec, student_file

_SHOWN = 5  # images quoted in the error


def predict(
    student: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    original: Uncut = None,
) -> list[Path]:
    """Run a student on an image, or on every image of a folder.

    Args:
        student: a student.safetensors, or the folder of a run that holds one.
        source: an image (for a student that takes label maps: a PNG of label ids), or a folder of them; its
            subfolders and names with a leading dot are left out.
        target: the PNG to write, or the folder to write PNGs of the same names into.
        original: for students of a network of your own, that network uncut, or its MODULE:NAME.

    Returns:
        what was written.

    Raises:
        FileNotFoundError: if the student or the source is not there.
        ValueError: if the student does not say what it takes, or an image cannot be used. The other images of the
            folder are written all the same.
    """
    file, source, target = student_file(student), Path(source), Path(target)
    inputs = len(read_spec(file).example)
    if inputs > 1:
        raise ValueError(
            f"{printable(file)} takes {inputs} inputs, and a picture is one: load it in Python with "
            "ganshrink.load, and call it"
        )
    network, spec = load_network(file, original)
    if spec.input is None:
        raise ValueError(f"{printable(file)} does not say what pictures it takes")
    pairs = _pair(source, target)
    problems = []
    for path, written in pairs:
        try:
            picture = prepare(path, spec.input)
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
            continue
        with torch.no_grad():
            write_png(written, to_uint8(network(picture[None])[0]))
    if problems and not source.is_dir():
        raise ValueError(problems[0])
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{len(problems)} of {len(pairs)} images could not be used, the others are in {printable(target)}: "
            f"{'; '.join(problems[:_SHOWN])}{more}"
        )
    return [written for _, written in pairs]


def _pair(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Each image with the PNG to write from it."""
    if source.is_dir():
        found = sorted(path for path in source.iterdir() if _is_image(path))
        if not found:
            raise ValueError(empty_folder(source))
        pairs = [(path, target / f"{path.stem}.png") for path in found]
    elif source.exists() or source.is_symlink():
        pairs = [(source, target / f"{source.stem}.png" if target.is_dir() else target)]
    else:
        raise FileNotFoundError(f"there is no image or folder {printable(source)}")
    for written, count in Counter(written for _, written in pairs).items():
        if written.suffix.lower() != ".png":
            raise ValueError(
                f"{printable(written)}: pictures are written as PNG; name a .png file, or a folder"
            )
        if count > 1:
            raise ValueError(
                f"{count} images in {printable(source)} would be written to {printable(written)}: rename them"
            )
    for path, written in pairs:
        if path.exists() and written.exists() and written.samefile(path):
            raise ValueError(f"{printable(written)} is an input itself: name another place for the output")
    return pairs


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
