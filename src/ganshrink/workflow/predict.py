"""A student at work: pictures in, pictures out; or of latent vectors pictures out."""

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from ganshrink.data import (
    InputSpec,
    as_picture,
    prepare,
    preview_input,
    seeded_latents,
    write_picture,
)
from ganshrink.data.folders import empty_folder
from ganshrink.data.pictures import SUFFIXES, printable, write_pixels
from ganshrink.data.pixels import ARRAY, PNG_CHANNELS, resize
from ganshrink.system.generator import generate
from ganshrink.workflow.camera import CAMERA, camera_of, film_camera
from ganshrink.workflow.films import CODECS, is_film, load_av, rewrite_film
from ganshrink.workflow.runner import Runner, Size
from ganshrink.workflow.saved_networks import Uncut
from ganshrink.workflow.student_files import open_student

_SHOWN = 5  # images quoted in the error
COUNT = 16  # pictures of latent vectors, where nobody says how many
FORMATS = {"png": (".png",), "jpg": (".jpg", ".jpeg"), "webp": (".webp",)}


def predict(
    student: str | Path,
    source: str | Path | Sequence[str | Path],
    target: str | Path,
    *,
    original: Uncut = None,
    size: Size | Literal["trained"] | None = None,
    tile: int | None = None,
    runtime: str | None = None,
    format: str | None = None,
    side_by_side: bool = False,
    count: int | None = None,
    seed: int | None = None,
    truncation: float | None = None,
    seconds: float | None = None,
    progress: bool = False,
) -> list[Path]:
    """Run a student on an image, or on every image of a folder; one that takes latent vectors, on vectors of a seed.

    A picture keeps its size where the student takes it, filled up at the right and below to the multiple that the student
    wants and cropped again; a student that takes no other size than the one it was trained at gets that, with a warning.

    Args:
        student: a student.safetensors, an exported student.onnx, or the folder of a run.
        source: an image (for a student that takes label maps: a PNG of label ids), a folder of them, whose subfolders
            and names with a leading dot are left out, a pattern such as `photos/*.jpg`, a film (extra `video`), or several
            of all these; or, alone, a camera: `camera`, `camera:1`, `camera:NAME` (see `camera_of`).
        target: the picture to write, or the folder to write pictures of the same names into. Images of other than one,
            three or four channels are written as .npy; films as WebM (VP9), or what the target's name says.
        original: for students of a network of your own, that network uncut, or its MODULE:NAME.
        size: (height, width) to resize pictures to; `trained`: what the student was trained at; none: their own.
        tile: run larger pictures in tiles of so many pixels a side, which overlap by as far as the student looks; refused
            for one that looks at the whole picture, as norms over the image do.
        runtime: `torch`, `onnxruntime` or `openvino`; none: torch for weights, ONNX Runtime for a student.onnx.
        format: `png`, `jpg` or `webp`; none: as the target is named, PNGs into a folder.
        side_by_side: write each picture beside what the student makes of it.
        count: of a student of latent vectors, for which there is no source: how many pictures; none: 16.
        seed: of the same: which ones; none: 0. Each is a function of the seed and its number.
        truncation: of the same: numbers farther than this from 0 are drawn again; none: all numbers.
        seconds: of a camera: how long to film; none: until Ctrl-C.
        progress: show how far it is.

    Returns:
        what was written.

    Raises:
        FileNotFoundError: if the student or the source is not there.
        ValueError: if the student does not say what it takes, or an image cannot be used. The other images of the
            folder are written all the same.
    """
    if tile is not None and tile < 1:
        raise ValueError(f"--tile {tile}: a number of pixels, such as 512")
    target = Path(target)
    sources = [source] if isinstance(source, str | Path) else list(source)
    network, spec, sizes = open_student(student, original, runtime)
    if spec.kind == "latent":
        if sources or side_by_side or (size, tile, seconds) != (None,) * 3:
            raise ValueError(
                f"{printable(student)} makes pictures of latent vectors: leave pictures, --size, --tile, "
                "--side-by-side and --seconds out"
            )
        return _draw(network, spec, target, format, count or COUNT, seed or 0, truncation)
    if (count, seed, truncation) != (None,) * 3:
        raise ValueError("--count, --seed and --truncation are for students that take latent vectors")
    if not sources:
        raise ValueError(
            "there is no picture to run the student on: name images, a folder or a film before OUT"
        )
    camera = camera_of(sources[0]) if len(sources) == 1 else None
    if camera is None and seconds is not None:
        raise ValueError("--seconds is for a camera alone: write `camera` in place of pictures")
    if camera is not None and format is not None:
        raise ValueError(
            f"--format {format} is for pictures: a camera is written as a film, by the name of OUT"
        )
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not (progress and console.is_terminal)) as bar:
        in_all, in_one = bar.add_task("pictures"), bar.add_task("parts", visible=False)

        def told(done: int, total: int) -> None:
            bar.update(in_one, completed=done, total=total, visible=done < total)

        runner = Runner(network, spec, sizes, tile=tile, told=told)
        asked = spec.size if size == "trained" else size

        def changed(frame: np.ndarray) -> np.ndarray:
            image = runner(frame, asked)
            return _beside(frame, spec, image) if side_by_side else _colour(as_picture(image))

        if camera is not None:
            _check_films(runner)
            written = target / f"{CAMERA}{next(iter(CODECS))}" if target.is_dir() else target
            _check_ending(written, tuple(CODECS), film=True)
            bar.update(in_all, description="filming", total=None)

            def filmed(done: int, total: int) -> None:
                bar.update(in_all, completed=done, total=total or None)

            film_camera(camera, written, changed, seconds=seconds, told=filmed)
            return [written]
        endings = _endings(runner.channels, spec, format, side_by_side)
        pairs = _pair(sources, target, endings)
        if any(is_film(path) for path, _ in pairs):
            _check_films(runner)
        problems = []

        for path, written in bar.track(pairs, task_id=in_all):
            try:
                if is_film(path):
                    rewrite_film(path, written, changed, told)
                    continue
                image = runner(path, asked)
            except (ValueError, FileNotFoundError) as error:
                problems.append(str(error))
                continue
            if side_by_side:
                write_pixels(written, _beside(path, spec, image))
            else:
                write_picture(written, image, white=spec.white)
    if problems and len(pairs) == 1 and not Path(sources[0]).is_dir():
        raise ValueError(problems[0])
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{len(problems)} of {len(pairs)} images could not be used, the others are in {printable(target)}: "
            f"{'; '.join(problems[:_SHOWN])}{more}"
        )
    return [written for _, written in pairs]


def _draw(
    network: nn.Module,
    spec: InputSpec,
    target: Path,
    format: str | None,
    count: int,
    seed: int,
    truncation: float | None,
) -> list[Path]:
    """Pictures of so many latent vectors, 0000.png and so on in a folder; of a single one perhaps the file that is named."""
    latents = seeded_latents(spec, count, seed=seed, truncation=truncation)
    with torch.inference_mode():
        first = generate(network, latents[:1])
        endings = _endings(first.shape[1], spec, format, side_by_side=False)
        single = count == 1 and target.suffix.lower() in endings
        written = [target if single else target / f"{number:04d}{endings[0]}" for number in range(count)]
        for number, path in enumerate(written):
            write_picture(path, generate(network, latents[number : number + 1])[0])
    return written


def _check_films(runner: Runner) -> None:
    """Raise a ValueError where a student cannot be run on films."""
    load_av()
    if runner.spec.kind == "labels" or runner.spec.channels not in (1, 3) or runner.channels not in (1, 3):
        raise ValueError("films are for students that take and make pictures, grey or RGB")


def parse_size(text: str | None) -> Size | Literal["trained"] | None:
    """What `--size` says: `256x512`, height and width, or `trained`."""
    if text is None or text == "trained":
        return text  # type: ignore[return-value]
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise ValueError(f"--size {text}: write HEIGHTxWIDTH, such as 256x512, or trained")
    return int(sides[0]), int(sides[1])


def _endings(channels: int, spec: InputSpec, format: str | None, side_by_side: bool) -> tuple[str, ...]:
    """How files of images of so many channels may end; the first is taken where the target is a folder.

    Raises:
        ValueError: for an unknown format, or one that such images do not have.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"--format {format}: write {', '.join(FORMATS)}")
    if channels not in PNG_CHANNELS:
        if format or side_by_side:
            asked = f"--format {format}" if format else "--side-by-side"
            raise ValueError(f"{asked}: images of {channels} channels are no pictures, but {ARRAY} files")
        return (ARRAY,)
    deep = channels == 1 and (spec.white or 0) > 255 and not side_by_side
    able = {"png": True, "jpg": channels != 4 and not deep, "webp": not deep}
    if format is not None and not able[format]:
        why = "16 bits" if deep else "4 channels"
        raise ValueError(f"--format {format}: pictures of {why} are written as PNG")
    names = [format] if format else [name for name, fine in able.items() if fine]
    arrays = () if side_by_side else (ARRAY,)
    return (*(ending for name in names for ending in FORMATS[name]), *arrays)


def _pair(sources: Sequence[str | Path], target: Path, endings: tuple[str, ...]) -> list[tuple[Path, Path]]:
    """Each image with the file to write from it."""
    found = [path for source in sources for path in _images(source)]
    single = len(sources) == 1 and found == [Path(sources[0])]
    able = {path: tuple(CODECS) if is_film(path) else endings for path in found}
    if single and not target.is_dir():
        pairs = [(found[0], target)]
    else:
        pairs = [(path, target / f"{path.stem}{able[path][0]}") for path in found]
    for path, written in pairs:
        _check_ending(written, able[path], film=is_film(path))
    for written, count in Counter(written for _, written in pairs).items():
        if count > 1:
            where = printable(sources[0]) if len(sources) == 1 else f"{len(sources)} sources"
            raise ValueError(
                f"{count} images in {where} would be written to {printable(written)}: rename them"
            )
    for path, written in pairs:
        if path.exists() and written.exists() and written.samefile(path):
            raise ValueError(f"{printable(written)} is an input itself: name another place for the output")
    return pairs


def _check_ending(written: Path, endings: tuple[str, ...], *, film: bool) -> None:
    """Raise a ValueError for a file that is not named as what is written to it may be."""
    if written.suffix.lower() in endings:
        return
    kind = "films" if film else "pictures"
    why = f"{kind} are written as {', '.join(ending[1:].upper() for ending in endings)}"
    if endings == (ARRAY,):
        why = "images of its channels are no PNG"
    raise ValueError(f"{printable(written)}: {why}; name a {endings[0]} file, or a folder")


def _images(source: str | Path) -> list[Path]:
    """The images that a source names."""
    path = Path(source)
    if path.is_dir():
        found = sorted(inside for inside in path.iterdir() if _is_image(inside))
        if not found:
            raise ValueError(empty_folder(path))
        return found
    if path.exists() or path.is_symlink():
        return [path]
    if camera_of(source) is not None:
        raise ValueError(f"{source} stands for a camera, which is filmed alone: name nothing beside it")
    if glob.has_magic(str(source)):
        names = glob.glob(str(source), recursive=True)  # noqa: PTH207  of any folder, `**` as the shell has it
        found = sorted(path for path in map(Path, names) if _is_image(path) or is_film(path))
        if not found:
            raise FileNotFoundError(f"no images match {printable(source)} (looked for {', '.join(SUFFIXES)})")
        return found
    raise FileNotFoundError(f"there is no image or folder {printable(path)}")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def _beside(source: Path | np.ndarray, spec: InputSpec, image: Tensor) -> np.ndarray:
    """A picture, at the size of what was made of it, and that at its right: uint8 (H, 2 W, 3 or 4)."""
    made = _colour(as_picture(image))
    given = _colour(preview_input(prepare(source, spec, size="own"), spec))
    given = resize(given, (made.shape[0], made.shape[1]))
    if made.shape[2] > given.shape[2]:
        given = np.concatenate([given, np.full_like(given[..., :1], 255)], 2)
    return np.concatenate([given[..., : made.shape[2]], made], 1)


def _colour(picture: np.ndarray) -> np.ndarray:
    """A grey picture (H, W) as (H, W, 3), any other as it is."""
    return np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture
