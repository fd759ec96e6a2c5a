"""A run is a directory. Its stages are done once: what a stage made is kept on disk and handed out again.

A stage is stamped with what it was made from (config, data, every stage before it). A changed stamp starts the stage
afresh and puts the old one aside; changed code only warns, since otherwise every commit would retrain.
"""

import hashlib
import json
import logging
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganshrink.atomic import replacing, write_json
from ganshrink.latency.machine import cpu_name

logger = logging.getLogger(__name__)

Artefacts = dict[str, Any]  # state dicts (kept as safetensors) and JSON values, by name


@dataclass(frozen=True)
class Stage:
    """A stage at work: its folder, and the stamp of what it is made from."""

    path: Path
    key: str


class Run:
    """A directory that remembers.

    Args:
        path: the folder; made if it is not there.
        seed: torch's seed at the start of every stage.

    Raises:
        ValueError: if the folder cannot be made.
    """

    def __init__(self, path: str | Path, *, seed: int = 0) -> None:
        self.path, self.seed = Path(path), seed
        self._stamps: dict[str, str] = {}  # of the stages so far, by name
        try:
            (self.path / "stages").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot make the run folder {self.path}: {error.strerror}") from None

    def stage(
        self,
        name: str,
        make: Callable[[Stage], Artefacts],
        *,
        made_from: Mapping[str, Any],
        after: Sequence[str] | None = None,
    ) -> Artefacts:
        """What `make` returns, computed now or on an earlier occasion.

        Args:
            name: the stage's folder under `stages/`.
            make: gets the `Stage`; returns state dicts (name to tensor) and JSON values by name. It may keep
                checkpoints in the stage's folder and finds them there again after a kill.
            made_from: JSON values that decide the result: configs, data fingerprints, hashes of weights.
            after: the stages that this one builds on; all before it if not given.
        """
        before = self._stamps if after is None else {stage: self._stamps[stage] for stage in after}
        record = {"made_from": json.loads(json.dumps(made_from)), "seed": self.seed, "after": dict(before)}
        key = _hash(record)
        stage = Stage(self.path / "stages" / name, key)
        self._stamps[name] = key
        self._make_room(stage)
        done_file = stage.path / "done.json"
        if done_file.exists():
            done = json.loads(done_file.read_text())
            if done["code"] != code_hash():
                logger.warning(
                    "stage %s was made by another version of the code; delete %s to make it again",
                    name,
                    stage.path,
                )
            return _load(stage.path, done["artefacts"])
        stage.path.mkdir(parents=True, exist_ok=True)
        write_json(stage.path / "stamp.json", {"key": key, **record})
        started = time.monotonic()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            artefacts = make(stage)
        files = _save(stage.path, artefacts)
        done = {
            "key": key,
            "seconds": time.monotonic() - started,
            "code": code_hash(),
            "artefacts": files,
            **record,
        }
        write_json(done_file, done | {"environment": environment(self.seed)})
        return _load(stage.path, files)

    def _make_room(self, stage: Stage) -> None:
        """Put a stage with another stamp aside, and take this one back if it was put aside before."""
        stamp = stage.path / "stamp.json"
        if stamp.exists():
            old = json.loads(stamp.read_text())["key"]
            if old == stage.key:
                return
            aside = stage.path.with_name(f"{stage.path.name}.{old[:8]}")
            logger.warning(
                "stage %s: its config, data or an earlier stage changed; the old one is kept as %s",
                stage.path.name,
                aside.name,
            )
            shutil.rmtree(aside, ignore_errors=True)
            stage.path.rename(aside)
        before = stage.path.with_name(f"{stage.path.name}.{stage.key[:8]}")
        if before.exists():
            before.rename(stage.path)

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file into the run's folder, atomically."""
        write_json(self.path / name, value)

    def read(self, name: str) -> Any:
        """Read a JSON file of the run's folder."""
        path = self.path / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: is {self.path} the folder of a finished run?")
        return json.loads(path.read_text())


def environment(seed: int) -> dict[str, Any]:
    """What a reader needs to know about where the numbers of a run come from."""
    return {
        "ganshrink": _version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_hash(),
    }


@cache
def code_hash() -> str:
    """A hash of this package's source files."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, atomically. Tied weights are written once for each name, since the format shares nothing."""
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata)


def _save(folder: Path, artefacts: Artefacts) -> list[str]:
    files = []
    for name, value in artefacts.items():
        if isinstance(value, Mapping) and value and all(isinstance(v, Tensor) for v in value.values()):
            files.append(f"{name}.safetensors")
            save_tensors(folder / files[-1], value)
        else:
            files.append(f"{name}.json")
            write_json(folder / files[-1], value)
    return files


def _load(folder: Path, files: list[str]) -> Artefacts:
    loaded: Artefacts = {}
    for file in files:
        path = folder / file
        loaded[path.stem] = load_file(path) if path.suffix == ".safetensors" else json.loads(path.read_text())
    return loaded


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _version() -> str:
    from importlib.metadata import version

    return version("ganshrink")
