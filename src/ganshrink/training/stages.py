"""A run is a directory. Its stages are done once: what a stage made is kept on disk and handed out again.

A stage is stamped with what it was made from (config, data, every stage before it). A changed stamp starts the stage
afresh and puts the old one aside; where only its end is moved further out, one that is not done goes on. Changed code
only warns, since otherwise every commit would retrain.
"""

import copy
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ganshrink.system.atomic import replacing, sync_folder, write_json
from ganshrink.system.distributed import barrier, broadcast, init_distributed, is_main_process
from ganshrink.system.lock import lock_folder
from ganshrink.training.environment import FORMAT, code_hash, environment
from ganshrink.training.trial import Trial

logger = logging.getLogger(__name__)

Artefacts = dict[str, Any]  # state dicts (kept as safetensors) and JSON values, by name


@dataclass(frozen=True)
class Stage:
    """A stage at work: its folder, the stamp of what it is made from, and that of what it began from, which its checkpoints
    have: all but when it ends (`until`); none: the same. In a trial of the run its trainings are short."""

    path: Path
    key: str
    begun: str | None = None
    trial: Trial | None = None


class Run:
    """A directory that remembers. While a `Run` is there, no other process can open one on its folder.

    Where torchrun started several processes, each opens it and calls the same methods in the same order; the first one
    alone locks, decides and writes, and all go on from what it wrote.

    Args:
        path: the folder; made if it is not there.
        seed: torch's seed at the start of every stage.
        trial: none: the run is in earnest.

    Raises:
        ValueError: if the folder cannot be made.
        FolderInUse: if another process works in it.
        OSError: if it cannot be written.
    """

    def __init__(self, path: str | Path, *, seed: int = 0, trial: Trial | None = None) -> None:
        self.path, self.seed, self.trial = Path(path), seed, trial
        self._stamps: dict[str, str] = {}  # of the stages so far, by name
        self._folders: dict[str, Path] = {}  # of the same; another run's where it is followed
        self._made_by: Any = None
        init_distributed()
        if is_main_process():
            try:
                (self.path / "stages").mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"cannot make the run folder {self.path}: {error.strerror}") from None
            self._lock = lock_folder(self.path)
        barrier()
        if not (self.path / "stages").is_dir():
            raise ValueError(
                f"a process does not see the run folder {self.path}: use one that all machines share"
            )

    def check_format(self) -> None:
        """Refuse a folder of an earlier version, whose stages this one would not recognise and train again.

        Raises:
            ValueError: if there are such stages; the message says what to do.
        """
        if not is_main_process() or not any(self.path.glob("stages/*/stamp.json")):
            return
        noted = self.path / "env.json"
        env = _read_json(noted, "delete it, and use --retrain") if noted.is_file() else {}
        if env.get("format", 1) < FORMAT:
            raise ValueError(
                f"{self.path} was made by an earlier version: --retrain (in Python, retrain=True) makes its stages again "
                f"and puts the old ones aside, or name a new folder, where teacher.weights={self.path} keeps its teacher"
            )

    def stage(
        self,
        name: str,
        make: Callable[[Stage], Artefacts],
        *,
        made_from: Mapping[str, Any],
        after: Sequence[str] | None = None,
        until: Mapping[str, Any] | None = None,
    ) -> Artefacts:
        """What `make` returns, computed now or on an earlier occasion.

        Args:
            name: the stage's folder under `stages/`.
            make: gets the `Stage`; returns state dicts (name to tensor) and JSON values by name. It may keep
                checkpoints in the stage's folder and finds them there again after a kill.
            made_from: JSON values that decide the result: configs, data fingerprints, hashes of weights.
            after: the stages that this one builds on; all before it if not given.
            until: when and how it ends: numbers (null: no end) and words by name, beside `made_from`. A stage that is not
                done goes on from where it is if numbers grew, are gone, or words changed; its record lists what they were.

        Raises:
            ValueError: if a file of the stage is damaged or another's; the message says what to delete.
            OSError: if a file cannot be written.
        """
        before = self._stamps if after is None else {stage: self._stamps[stage] for stage in after}
        if self._made_by is not None:
            made_from = {**made_from, "made_by": self._made_by}
        record = {"made_from": json.loads(json.dumps(made_from)), "seed": self.seed, "after": dict(before)}
        begun = _hash(record)
        if until is not None:
            record["until"] = json.loads(json.dumps(until))
        key = _hash(record)
        stage = Stage(self.path / "stages" / name, key, begun, self.trial)
        self._stamps[name], self._folders[name] = key, stage.path
        if broadcast(key) != key:
            raise ValueError(
                f"stage {name}: processes differ in settings or data: give all the same recipe and images"
            )
        done = broadcast(self._begin(stage, record) if is_main_process() else None)
        if done is not None:
            return _load(stage.path, done)
        started = time.monotonic()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            artefacts = make(stage)
        seconds = time.monotonic() - started
        if self.trial is not None:
            self.trial.note(name, seconds)
        done = broadcast(self._finish(stage, artefacts, seconds) if is_main_process() else {})
        return _load(stage.path, done)

    def _begin(self, stage: Stage, record: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of a stage that is done; otherwise None, and its folder is ready to work in."""
        earlier = self._make_room(stage, record)
        done_file = stage.path / "done.json"
        if done_file.exists():
            done = _read_done(done_file, stage.key)
            if done.get("code") != code_hash():
                logger.warning(
                    "stage %s was made by another version of the code; delete %s to make it again",
                    stage.path.name,
                    stage.path,
                )
            return done
        stage.path.mkdir(parents=True, exist_ok=True)
        write_json(stage.path / "stamp.json", {"key": stage.key, **record, **earlier})
        sync_folder(stage.path.parent)
        return None

    def _finish(self, stage: Stage, artefacts: Artefacts, seconds: float) -> dict[str, Any]:
        """Keep what a stage made, then its record, which makes it done."""
        files = _save(stage.path, artefacts)
        done = {
            "seconds": seconds,
            "code": code_hash(),
            "artefacts": files,
            "sha256": {file: file_hash(stage.path / file) for file in files},
            **(_read_stamp(stage.path) or {}),
        }
        write_json(stage.path / "done.json", done | {"environment": environment(self.seed)})
        return done

    def made_by(self, own: Any) -> "Run":
        """The same run, at work for code with this stamp, which its stages are made from too; None: of this package."""
        run = copy.copy(self)  # what it knows of its stages is shared, its lock too
        run._made_by = own
        return run

    def part(self, name: str) -> "Run":
        """A run in a subfolder, for one of several students."""
        return Run(self.path / name, seed=self.seed, trial=self.trial)

    def follow(self, run: "Run") -> None:
        """Take the stages of another run as those before the next one here."""
        for mine, theirs in ((self._stamps, run._stamps), (self._folders, run._folders)):
            both: dict[str, Any] = {**theirs, **mine}
            mine.clear()  # in place: `made_by` shares it
            mine.update(both)

    def forget_all_but(self, names: Sequence[str]) -> None:
        """Take these alone of the stages so far as those before the next one; what is on disk stays."""
        for known in (self._stamps, self._folders):
            for name in known.keys() - set(names):
                del known[name]

    def stages(self) -> list[dict[str, str]]:
        """The stages so far in order, those followed included: `name`, `key`, and `path` from the run's folder on."""
        return [
            {
                "name": name,
                "path": Path(os.path.relpath(folder, self.path)).as_posix(),
                "key": self._stamps[name],
            }
            for name, folder in self._folders.items()
        ]

    def _make_room(self, stage: Stage, record: Mapping[str, Any]) -> dict[str, Any]:
        """Put a stage with another stamp aside unless it goes on under this one, and take one back that was put aside and is
        this one or can become it.

        Returns:
            "earlier": of a stage that goes on, the ends that it had before.
        """
        path = stage.path
        old = _read_stamp(path) if path.exists() else None
        if old is not None and old["key"] != stage.key and not _goes_on(path, old, record):
            aside = path.with_name(f"{path.name}.{old['key'][:8]}")
            logger.warning(
                "stage %s: its config, data or an earlier stage changed; the old one is kept as %s",
                path.name,
                aside.name,
            )
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            old = None
        if old is None:
            shutil.rmtree(path, ignore_errors=True)  # what a kill in the first moment left
            before, old = self._put_aside(stage, record)
            if before is None or old is None:
                return {}
            before.rename(path)
        earlier = old.get("earlier", [])
        if old["key"] != stage.key:
            earlier = [*earlier, old["until"]]
            logger.info("stage %s goes on from where it was", path.name)
        return {"earlier": earlier} if earlier else {}

    def _put_aside(
        self, stage: Stage, record: Mapping[str, Any]
    ) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
        """The folder and stamp of a stage that was put aside and is this one, or else of one that can become it."""
        path = stage.path
        same = path.with_name(f"{path.name}.{stage.key[:8]}")
        others = sorted(path.parent.glob(f"{path.name}.*")) if "until" in record else []
        for folder in [same, *others]:
            found = _read_stamp(folder) if folder.exists() else None
            if found is not None and (folder == same or _goes_on(folder, found, record)):
                return folder, found
        return None, None

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file into the run's folder, atomically."""
        if is_main_process():
            write_json(self.path / name, value)

    def read(self, name: str) -> Any:
        """Read a JSON file of the run's folder."""
        path = self.path / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: is {self.path} the folder of a finished run?")
        return _read_json(path, "run the command that made it again")


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
        temporary.write_bytes(
            save(whole, metadata)
        )  # save_file makes a temporary of its own, left over by a kill


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


def finished_stage(run: Path, name: str) -> Artefacts:
    """What a finished stage of any run made, such as another run's teacher.

    Raises:
        ValueError: if the stage is not there or not done, or a file is not what it wrote.
    """
    folder = run / "stages" / name
    record = folder / "done.json"
    if not record.is_file():
        raise ValueError(f"{run} is not the folder of a run with a finished {name}")
    key = _read_json(record, "name another run").get("key")
    return _load(folder, _read_done(record, key))


def _load(folder: Path, done: Mapping[str, Any]) -> Artefacts:
    """What a finished stage made.

    Raises:
        ValueError: if a file is not what the stage wrote.
    """
    loaded: Artefacts = {}
    again = f"delete {folder / 'done.json'} to make it again; a training goes on from its checkpoint"
    for file in done["artefacts"]:
        path = folder / file
        if not path.is_file():
            raise ValueError(f"{path} is missing: {again}")
        written = done.get("sha256", {}).get(file)  # earlier versions did not note it
        if written is not None and written != file_hash(path):
            raise ValueError(f"{path} is not what the stage wrote: {again}")
        try:
            value = load_file(path) if path.suffix == ".safetensors" else _read_json(path, again)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}): {again}") from error
        loaded[path.stem] = value
    return loaded


def _goes_on(folder: Path, old: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether the stage of this stamp in a folder is not done, and is another one in nothing but an end further out."""
    ends = {"key", "earlier", "until"}
    before, now = ({k: v for k, v in one.items() if k not in ends} for one in (old, record))
    if before != now or (folder / "done.json").exists() or "until" not in old or "until" not in record:
        return False
    return not any(_nearer(end, old["until"].get(name)) for name, end in record["until"].items())


def _nearer(end: Any, old: Any) -> bool:
    """Whether an end is a number, and less than it was."""
    return isinstance(end, int | float) and not (isinstance(old, int | float) and end >= old)


def _read_stamp(folder: Path) -> dict[str, Any] | None:
    """The stamp of a stage's folder; None if nothing was made in it.

    Raises:
        ValueError: if the stamp is damaged or gone.
    """
    if all(path.name.startswith(".") for path in folder.iterdir()):
        return None
    stamp, remedy = folder / "stamp.json", f"delete {folder} to make the stage again from the start"
    if not stamp.exists():
        raise ValueError(f"{stamp} is missing, so what {folder} was made from is not known: {remedy}")
    record = _read_json(stamp, remedy)
    key = record.get("key") if isinstance(record, dict) else None
    if not isinstance(key, str) or not re.fullmatch("[0-9a-f]{16}", key):
        raise ValueError(f"{stamp} is no stamp of a stage: {remedy}")
    return record  # type: ignore[no-any-return]


def _read_done(path: Path, key: str) -> dict[str, Any]:
    remedy = "delete it to make the stage again; a training goes on from its checkpoint"
    done = _read_json(path, remedy)
    files = done.get("artefacts") if isinstance(done, dict) else None
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise ValueError(f"{path} is no record of a finished stage: {remedy}")
    if done.get("key") != key:
        raise ValueError(f"{path} belongs to other settings or data: {remedy}")
    return done


def _read_json(path: Path, remedy: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from error


def file_hash(path: Path) -> str:
    """Of what is in it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
