"""The page's folder, or all of it in one file."""

import base64
import gzip
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganshrink.browser.runtime import VERSION, WASM, runtime_files
from ganshrink.data import class_colours
from ganshrink.data.pictures import printable
from ganshrink.exporters.note import FileNote, read_note
from ganshrink.reports.page import filled, shown
from ganshrink.system.atomic import replacing, write_text

HERE = Path(__file__).parent
CHANNELS = (1, 3)  # of pictures that a browser has


def write_page(
    networks: Mapping[str, str | Path],
    target: str | Path,
    *,
    samples: Sequence[Path] = (),
    name: str = "",
    sentence: str = "",
    grade: str = "",
    single_file: bool = False,
) -> Path:
    """Write a page that runs networks in the browser, and return its path.

    Args:
        networks: ONNX files that this package exported, teacher first; they take the same pictures.
        target: the folder to write `index.html` and all that it needs into; of a single file, its path or folder.
        samples: pictures to begin with, as `samples/` of a run has them.
        name, sentence, grade: what stands at the top: the run and the verdict on it.
        single_file: one file with everything inside, which works from a double click, on WebAssembly alone.

    Raises:
        FileNotFoundError: a file is missing, or npm.
        ConnectionError: onnxruntime-web cannot be fetched.
        ValueError: a network takes what a browser has no pictures of.
    """
    files = {of: Path(file) for of, file in networks.items()}
    notes = {of: read_note(file) for of, file in files.items()}
    facts: dict[str, Any] = {
        "name": name,
        "runtime": VERSION,
        "networks": [_facts(of, files[of], note) for of, note in notes.items()],
        "samples": [_inlined(file, "image/png") for file in samples],
        "colours": _colours(next(iter(notes.values()))),
    }
    runtime, target = runtime_files(), Path(target)
    if single_file:
        path = target if target.suffix == ".html" else target / "demo.html"
        inside = {of: _packed(file) for of, file in files.items()}
        library, module, wasm = (runtime[file] for file in WASM)
        facts["inside"] = {
            "networks": inside,
            "wasm": _packed(wasm),
            "module": _inlined(module, "text/javascript"),
        }
        write_text(path, _page(facts, sentence, grade, library.read_text(encoding="utf-8")))
        return path
    target.mkdir(parents=True, exist_ok=True)
    for file in runtime.values():
        _copy(file, target / "ort" / file.name)
    for of, file in files.items():
        _copy(file, target / f"{of}.onnx")
    write_text(target / "index.html", _page(facts, sentence, grade, ""))
    return target / "index.html"


def _page(facts: Mapping[str, Any], sentence: str, grade: str, library: str) -> str:
    # `</script>` inside of a script would end it.
    text = json.dumps(facts).replace("<", "\\u003c")
    code = (HERE / "demo.js").read_text(encoding="utf-8")
    return filled(
        str(HERE / "demo.html.j2"),
        name=facts["name"],
        sentence=sentence and shown(sentence),
        grade=grade,
        draws=bool(facts["colours"]),
        facts=_Raw(text),
        library=_Raw(library.replace("</script", "<\\/script")),
        code=_Raw(code),
    )


class _Raw(str):
    """Text that goes into a template as it is."""

    def __html__(self) -> str:
        return str(self)


def _facts(of: str, file: Path, note: FileNote) -> dict[str, Any]:
    """What the page must know to run a file; levels are 0..255, or 0 and 1 of a label map."""
    spec = note.input
    known = spec is not None and (
        spec.kind == "labels" or (spec.kind == "image" and spec.channels in CHANNELS)
    )
    if spec is None or spec.edges or spec.features or not known:
        raise ValueError(
            f"{printable(file)} takes no picture that a browser has: grey, RGB, or a map of classes"
        )
    return {
        "name": of,
        "file": f"{of}.onnx",
        "bytes": file.stat().st_size,
        "kind": spec.kind,
        "channels": spec.channels,
        "size": list(spec.size),
        "sizes": note.sizes and note.sizes.about(),
        "dtype": "uint8" if note.image_io == "uint8" and spec.kind == "image" else "float32",
        "encode": _encoding(note),
        "decode": _decoding(note),
    }


def _encoding(note: FileNote) -> list[list[float]]:
    """Factor and summand, of each channel or of all, by which a level becomes a value of the file."""
    assert note.input is not None
    plain = note.image_io or not note.values.pictures[0]
    if note.input.kind == "labels":
        return [[1.0], [0.0]] if plain else list(note.values.input.coefficients())
    if note.image_io:
        return [[1.0], [0.0]]
    factor, summand = note.values.input.coefficients()
    return [[by / 127.5 for by in factor], [add - by for by, add in zip(factor, summand, strict=True)]]


def _decoding(note: FileNote) -> list[list[float]]:
    """The same from a value of the file to a level."""
    if note.image_io:
        return [[1.0], [0.0]]
    factor, summand = note.values.output.coefficients()
    back = [127.5 / by for by in factor]
    return [back, [127.5 - add * by for add, by in zip(summand, back, strict=True)]]


def _colours(note: FileNote) -> list[list[int]]:
    """A colour for each class of a label map; none for pictures."""
    if note.input is None or note.input.kind != "labels":
        return []
    return class_colours(note.input.classes, void=note.input.void).tolist()  # type: ignore[no-any-return]


def _inlined(file: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _packed(file: Path) -> str:
    """A file as base64 of its gzip, the same for the same bytes."""
    return base64.b64encode(gzip.compress(file.read_bytes(), mtime=0)).decode()


def _copy(file: Path, target: Path) -> None:
    if target.is_file() and target.stat().st_size == file.stat().st_size and file.name.startswith("ort"):
        return
    with replacing(target) as part:
        shutil.copyfile(file, part)
