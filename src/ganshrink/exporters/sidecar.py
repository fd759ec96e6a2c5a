"""What a file says of itself where its format has no place for it: a JSON file beside it; and files put into place."""

from pathlib import Path

from ganshrink.exporters.note import FileNote
from ganshrink.system.atomic import replacing, write_text


def place(made: Path, path: Path) -> int:
    """Put a finished file into its place, whole or not at all; its size in bytes."""
    with replacing(path) as part:
        part.write_bytes(made.read_bytes())
    return path.stat().st_size


def write_note(path: Path, note: FileNote) -> None:
    """The note of `path` as `NAME.json` beside it."""
    write_text(path.with_name(f"{path.name}.json"), note.model_dump_json(indent=2) + "\n")
