"""What a run directory holds, read with patience: an absent or broken file is noted, never fatal."""

import base64
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMPRESS, EVALUATE = "ganshrink compress RECIPE run=DIR", "ganshrink evaluate DIR"
MADE_BY = {
    "cost.json": COMPRESS,
    "plan.json": COMPRESS,
    "env.json": COMPRESS,
    "metrics.json": EVALUATE,
    "latency.json": "ganshrink measure DIR",
    "parity.json": "ganshrink export DIR",
    "recipe.toml": COMPRESS,
    "samples/samples.json": COMPRESS,
    "stages": COMPRESS,
}
IMAGE_TYPES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
    b"GIF8": "image/gif",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its done.json (empty while it runs), its events, its validation.json (empty where there is none), and the
    pictures that were made while it ran."""

    name: str
    done: dict[str, Any]
    events: list[dict[str, Any]]
    validation: dict[str, Any] = field(default_factory=dict)
    samples: list[Path] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The run directory's content; `problems` says by file what is missing or broken, as (what, which command)."""

    folder: Path
    name: str
    json: dict[str, dict[str, Any]]
    recipe: str
    stages: list[Stage]
    problems: dict[str, tuple[str, str]] = field(default_factory=dict)

    def get(self, name: str) -> dict[str, Any]:
        """The object in `name`, empty when there is none."""
        return self.json.get(name, {})

    def optional(self, name: str) -> dict[str, Any]:
        """The object in a file that not every run has; empty where it is not there or cannot be read."""
        return _object(self.folder / name)

    def size(self, name: str) -> int | None:
        """Bytes of a file, None when there is none."""
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None


def directions(folder: Path | str) -> list[str]:
    """The folders inside that of a run of both directions; none of any other's."""
    return [str(way) for way in (Path(folder, name) for name in ("AtoB", "BtoA")) if way.is_dir()]


def read_run(folder: Path | str) -> RunFiles:
    """Read everything but the images.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder holds none of a run's files, or runs of both directions.
    """
    folder = Path(folder)
    if not (folder / "cost.json").exists() and (ways := directions(folder)):
        raise ValueError(f"{folder} holds a run for each direction: name one of them, {' or '.join(ways)}")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give a run directory")
    if not any((folder / name).exists() for name in MADE_BY):
        raise ValueError(
            f"{folder} is no run directory, it holds none of {', '.join(MADE_BY)}: give the DIR of `{COMPRESS}`"
        )
    run = RunFiles(
        folder, folder.resolve().name, {}, _read_text(folder / "recipe.toml"), _read_stages(folder)
    )
    for name in MADE_BY:
        problem = _problem(run, name)
        if problem:
            run.problems[name] = (problem, MADE_BY[name])
    return run


def _problem(run: RunFiles, name: str) -> str | None:
    """Read one file into `run`; what is wrong with it, if anything."""
    path = run.folder / name
    if not path.exists():
        return f"{name} is missing"
    if path.suffix != ".json":
        return None if run.stages or name != "stages" else "stages/ is empty"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{name} cannot be read ({error})"
    if not isinstance(content, dict):
        return f"{name} holds no JSON object"
    run.json[name] = content
    return None


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _read_stages(folder: Path) -> list[Stage]:
    return [
        Stage(
            name,
            _object(path / "done.json"),
            _objects(path / "events.jsonl"),
            _object(path / "validation.json"),
            sorted((path / "samples").glob("*.png")),
        )
        for name, path in stage_folders(folder)
        if path.is_dir()
    ]


def stage_folders(folder: Path) -> list[tuple[str, Path]]:
    """The stages that the result is made of, by stages.json: stages/ may hold another recipe's too, and a student of
    one direction has its teacher in the folder above. All of stages/ where there is no such file."""
    try:
        listed = dicts(json.loads(_read_text(folder / "stages.json")))
    except ValueError:
        listed = []
    if listed:
        return [(str(entry.get("name")), _stage_folder(folder, entry)) for entry in listed]
    root = folder / "stages"
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    kept = [path for path in folders if "." not in path.name]  # NAME.KEY was put aside
    return [(path.name, path) for path in sorted(kept, key=_order)]


def _order(folder: Path) -> tuple[int, float, str]:
    """By the number of stages before it, which its record tells, then by time."""
    files = [folder / name for name in ("done.json", "stamp.json") if (folder / name).is_file()]
    before = dig(_object(files[0]), "after") if files else None
    time = files[0].stat().st_mtime_ns if files else math.inf
    return len(before) if isinstance(before, dict) else 0, time, folder.name


def _stage_folder(folder: Path, entry: dict[str, Any]) -> Path:
    """Where a stage of stages.json is now: it was put aside if another command made it again from other settings."""
    path = folder / str(entry.get("path"))
    aside = Path(f"{path}.{str(entry.get('key'))[:8]}")
    return aside if aside.is_dir() else path


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; a killed run's last line may be half a one."""
    found = []
    for line in _read_text(path).splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            found.append(event)
    return found


def dig(content: Any, *keys: str) -> Any:
    """What stands at a path of keys, None where the path ends early."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def number(content: Any, *keys: str) -> float | None:
    """The number at a path of keys, None where there is none."""
    found = dig(content, *keys)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def interval(entry: Any) -> tuple[float, float] | None:
    """The interval of a value of metrics.json; None where there is none."""
    given = dig(entry, "interval")
    ends = dig(entry, "protocol")  # of an earlier version
    if isinstance(given, list | tuple) and len(given) == 2:
        ends = {"low": given[0], "high": given[1]}
    low, high = number(ends, "low"), number(ends, "high")
    return None if low is None or high is None else (low, high)


def dicts(content: Any, *keys: str) -> list[dict[str, Any]]:
    """The objects of the list at a path of keys."""
    found = dig(content, *keys)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def data_uri(run: RunFiles, name: object) -> str | None:
    """An image of samples/ as a `data:` URI, None when there is no such image in there."""
    return image_uri(run.folder / "samples", name)


def image_uri(folder: Path, name: object) -> str | None:
    """An image of a folder as a `data:` URI, None when there is no such image in there."""
    folder = folder.resolve()
    path = (folder / str(name)).resolve()
    if name is None or not path.is_relative_to(folder) or not path.is_file():
        return None
    content = path.read_bytes()
    kind = next((kind for magic, kind in IMAGE_TYPES.items() if content.startswith(magic)), None)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if kind else None
