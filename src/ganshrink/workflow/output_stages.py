"""What a finished run leaves behind is made in stages too: each output once, and again when what it was made from changed,
or a file of it is gone or another."""

import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ganshrink.metrics import METRICS, MetricsConfig
from ganshrink.metrics.segmenters import drn, espnet
from ganshrink.metrics.weights import weights_path
from ganshrink.reports.files import stage_folders
from ganshrink.reports.quantized import INT8
from ganshrink.system.atomic import write_json
from ganshrink.system.machine import core_count, device_name
from ganshrink.system.own import chosen
from ganshrink.training.environment import code_hash
from ganshrink.training.stages import Run, file_hash
from ganshrink.training.stamps import sources, stamp

RECORD = "outputs.json"
ASIDE = ".outputs"  # where an earlier student's outputs wait until it is known which are this one's too
UNSHOWN = (RECORD, "env.json", "preflight.json", "verdict.json")  # of the folder's files, in the report
PACKAGES = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "openvino", "stlpips-pytorch")


class OutputStages:
    """The outputs of a run, at work.

    Args:
        run: whose files were put aside (`set_aside`).
    """

    def __init__(self, run: Run) -> None:
        self.run, self.record, self.asked = run, _record(run.path), list[str]()
        self.common = {"code": code_hash(), "packages": {name: _version(name) for name in PACKAGES}}

    def once(
        self,
        name: str,
        make: Callable[[], Any],
        made_from: Mapping[str, Any],
        *,
        files: Sequence[str] = (),
        entries: Mapping[str, str] | None = None,
    ) -> bool:
        """Make an output, or take back what an earlier call left of it; whether it was made.

        Args:
            name: of its file.
            make: writes it, whole.
            made_from: JSON values that decide it, besides the package's code and the versions of others.
            files: all its files, or patterns of them; none: the one.
            entries: its key in other JSON files of the run, by the file's name.
        """
        key = _hash([self.common, made_from])
        self.asked.append(name)
        if self._take_back(self.record.get(name, {}), key):
            return False
        earlier = self.record.pop(name, {})
        make()
        made = _written(self.run, files or [name], entries or {})
        if made["files"] == earlier.get("files"):
            made["entries"] = self._timed(made["entries"], earlier["entries"])
        self.record[name] = {"key": key, **made}
        self.run.write(RECORD, self.record)
        return True

    def _timed(self, made: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
        """Entries of a file, with the times of that file in earlier ones."""
        found = {}
        for file, told in made.items():
            old = earlier.get(file, {})
            times = {entry: old[entry]["latency"] for entry in told if "latency" in old.get(entry, {})}
            found[file] = {entry: told[entry] | {"latency": times[entry]} for entry in times} or told
            if times:
                self.run.write(file, self.run.read(file) | found[file])
        return found

    def _take_back(self, earlier: Mapping[str, Any], key: str | None) -> bool:
        """Put an output's files back where they belong, if they are still what was written, and from the same."""
        folder, places = self.run.path, {}
        if earlier.get("key") != key or not earlier["files"]:
            return False
        for file, written in earlier["files"].items():
            for place in (folder / file, folder / ASIDE / file):
                if place.is_file() and file_hash(place) == written:
                    places[file] = place
                    break
            else:
                return False
        for file, place in places.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            place.replace(folder / file)
        for file, told in earlier["entries"].items():
            content = self.run.read(file) if (folder / file).is_file() else {}
            self.run.write(file, content | told)
        return True

    def keep(self, student: str) -> None:
        """Take back what verbs wrote (`note`) of the student with weights of this hash."""
        self.asked += [
            name
            for name, made in self.record.items()
            if made.get("student") == student and "of" not in made and self._take_back(made, None)
        ]

    def kept(self, name: str, of: Any) -> bool:
        """Take back what a verb wrote (`note`) of just this; whether there was such."""
        made = self.record.get(name, {})
        found = bool("of" in made and made["of"] == of and self._take_back(made, None))
        self.asked += [name] * found
        return found

    def close(self) -> None:
        """Remove what none of the outputs asked for is made of."""
        self.run.write(RECORD, {name: made for name, made in self.record.items() if name in self.asked})
        shutil.rmtree(self.run.path / ASIDE, ignore_errors=True)


def set_aside(folder: Path, files: Sequence[str]) -> None:
    """Take files out of a run's folder: those that an output is made of are put aside, the others removed."""
    known = {file for made in _record(folder).values() for file in made["files"]}
    for file in files:
        if (folder / file).is_dir():
            nested = [path for path in (folder / file).rglob("*") if path.is_file()]
            set_aside(folder, [path.relative_to(folder).as_posix() for path in nested])
            shutil.rmtree(folder / file)
        elif file in known and (folder / file).is_file():
            aside = folder / ASIDE / file
            aside.parent.mkdir(parents=True, exist_ok=True)
            (folder / file).replace(aside)
        else:
            (folder / file).unlink(missing_ok=True)


def note(
    run: Run,
    name: str,
    student: str,
    *,
    files: Sequence[str],
    entries: Mapping[str, str],
    of: Any = None,
) -> None:
    """Let what a verb wrote of a student outlast another call on its run, while it is the same student's.

    Args:
        student: the hash of its weights.
        files, entries: as for `OutputStages.once`.
        of: JSON of what else must be the same (`OutputStages.kept`); None: nothing.
    """
    made = {"key": None, "student": student, **_written(run, files, entries)}
    made |= {} if of is None else {"of": of}
    run.write(RECORD, _record(run.path) | {name: made})


def _written(run: Run, files: Sequence[str], entries: Mapping[str, str]) -> dict[str, Any]:
    """The files of an output with their hashes, and its entries in others."""
    found = [path for pattern in files for path in run.path.glob(pattern) if path.is_file()]
    made = {path.relative_to(run.path).as_posix(): file_hash(path) for path in found}
    told = {file: {entry: run.read(file)[entry]} for file, entry in entries.items()}
    return {"files": made, "entries": told}


def forget(folder: Path, name: str) -> None:
    """Let an output be made again, whatever is there of it."""
    record = _record(folder)
    if record.pop(name, None) is not None:
        write_json(folder / RECORD, record)


def stamp_of_metrics(config: MetricsConfig) -> Any:
    """What decides the values of metrics besides pictures: settings, code of the user's own, and the weights files."""
    own = [chosen("metrics", name, METRICS) for name in config.names or () if isinstance(name, str)]
    own += [chosen("segmenters", config.segmenter, {})] if ":" in config.segmenter else []
    files = [value for _, value in config if isinstance(value, Path)]
    files += [Path(file) for file in (config.segmenter, espnet.FILE, drn.FILE)]
    found = [path for path in map(weights_path, files) if path.is_file()]
    weights = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in found]
    return [stamp(config), sources(*own), weights]


def stamp_of_times(folder: Path) -> Any:
    """What must be the same for times in latency.json to stay true: the files timed, this machine, and what the recipe asks
    for."""
    timed = [folder / name for name in ("teacher.safetensors", "student.safetensors", "student.onnx", INT8)]
    asked = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8")).get("latency")
    files = {path.name: file_hash(path) for path in timed if path.is_file()}
    return {"files": files, "machine": [device_name(torch.device("cpu")), core_count()], "asked": asked}


def stamp_of_report(folder: Path) -> Any:
    """What decides the report: the folder's files, and those of the stages that it shows."""
    shown = [path for path in (*folder.glob("*.json"), *folder.glob("samples/*")) if path.name not in UNSHOWN]
    for _, path in stage_folders(folder):
        shown += [path / file for file in ("done.json", "events.jsonl", "validation.json")]
    env = json.loads((folder / "env.json").read_bytes())
    return [
        {os.path.relpath(path, folder): _content(path) for path in sorted(shown) if path.is_file()},
        {
            path.name: path.stat().st_size
            for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.onnx")))
        },
        {key: value for key, value in env.items() if key not in ("command", "started")},
        (folder / "recipe.toml").read_text(encoding="utf-8"),
    ]


def _content(path: Path) -> str:
    """The hash of a file; of JSON whatever the order of its keys, which is that in which outputs were made."""
    with suppress(ValueError):
        return _hash(json.loads(path.read_bytes())) if path.suffix == ".json" else file_hash(path)
    return file_hash(path)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _record(folder: Path) -> dict[str, Any]:
    """What is known of the outputs in a run's folder; nothing where that cannot be read: they are made again."""
    with suppress(OSError, ValueError):
        return dict(json.loads((folder / RECORD).read_bytes()))
    return {}


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None
