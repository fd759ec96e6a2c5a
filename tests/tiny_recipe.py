"""A whole recipe of the smallest kind, for tests of what runs do."""

from pathlib import Path


def tiny(folder: Path, **tables) -> dict:
    raw = {
        "run": str(folder),
        "budget": "macs=60%",
        "net": {"name": "incres9", "ngf": 6, "blocks": 1},
        "data": {"size": 32, "counts": {"train": 4, "val": 2, "test": 2}},
        "task": {"name": "pix2pix", "ndf": 4},
        "method": {"name": "cat", "floor": 2},
        "teacher": {"epochs": 1, "decay_epochs": 0, "batch_size": 2, "accelerator": "cpu"},
        "export": {"onnx": False},
        "latency": {"enabled": False},
    }
    for table, values in tables.items():
        raw[table] = {**raw[table], **values} if isinstance(raw.get(table), dict) else values
    return raw
