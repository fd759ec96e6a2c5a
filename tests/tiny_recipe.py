"""Whole recipes of the smallest kind, for tests of what runs do, and what such a run left."""

import json
from pathlib import Path


def tiny(folder: Path, **tables) -> dict:
    raw = {
        "run": str(folder),
        "budget": "macs=60%",
        "net": {"name": "resnet9", "ngf": 6, "blocks": 1},
        "data": {"size": 32, "counts": {"train": 4, "val": 2, "test": 2}},
        "task": {"name": "pix2pix", "ndf": 4},
        "method": {"name": "cat", "search": {"floor": 2}},
        "teacher": {"epochs": 1, "decay_epochs": 0, "batch_size": 2, "accelerator": "cpu"},
        "export": {"onnx": False},
        "latency": {"enabled": False},
    }
    for table, values in tables.items():
        another = table == "method" and "name" in values  # which has settings of its own
        merged = isinstance(raw.get(table), dict) and not another
        raw[table] = {**raw[table], **values} if merged else values
    return raw


def tiny_cycle(folder: Path, domains: dict, **tables) -> dict:
    raw = tiny(
        folder,
        net={"name": "resnet9", "ngf": 4, "blocks": 1},
        task={"name": "cyclegan", "ndf": 4, "d_layers": 1},
        method={"search": {"floor": 1}},
        teacher={"max_steps": 2, "log_every": 1},
    )
    raw["data"] = domains
    for table, values in tables.items():
        raw[table] = {**raw.get(table, {}), **values} if isinstance(values, dict) else values
    return raw


def made_of(folder: Path) -> list[str]:
    """The folders of the stages that a run's result is made of."""
    return [stage["path"] for stage in json.loads((folder / "stages.json").read_text())]


def stages(folder: Path) -> dict[str, int]:
    """When each stage of a run was done, by name; stages put aside included."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("stages/*/done.json")}


def done(folder: Path, stage: str) -> dict:
    return json.loads((folder / f"stages/{stage}/done.json").read_text())
