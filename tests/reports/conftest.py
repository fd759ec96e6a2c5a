"""A run directory as `ganshrink compress` leaves it, with made-up but plausible numbers and pictures."""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE = 128
Build = Callable[..., Path]


@pytest.fixture(scope="session", name="build_run")
def _build_run() -> Build:
    return build_run


def build_run(folder: Path, *, rows: int = 4, name: str = "street <front> & yard") -> Path:
    """Write a whole run directory into `folder`; `name` is the first picture's name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    _write(folder / "cost.json", _cost())
    _write(folder / "plan.json", _plan(rng))
    _write(folder / "metrics.json", _metrics())
    _write(folder / "latency.json", _latency())
    _write(folder / "parity.json", _parity())
    _write(folder / "env.json", _env())
    (folder / "recipe.toml").write_text(
        'method = "cat"\nbudget = "macs=10%"\n\n[data]\nname = "facades-synthetic"\n'
    )
    (folder / "student.safetensors").write_bytes(b"0" * 3_300_000)
    (folder / "student.onnx").write_bytes(b"0" * 3_410_000)
    _samples(folder / "samples", rows, name, rng)
    _stage(
        folder,
        "teacher",
        {"G_gan": (2.1, 0.9), "G_recon": (48, 14), "D_real": (0.9, 0.4), "D_fake": (0.9, 0.35)},
        rng,
    )
    _stage(folder, "search", {}, rng)
    _stage(
        folder,
        "distill",
        {"G_gan": (1.7, 1.0), "G_recon": (30, 15), "G_gka": (0.0, -3.4), "D_real": (0.5, 0.4)},
        rng,
    )
    return folder


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def _cost() -> dict[str, Any]:
    teacher = {
        "params": 8_154_255,
        "bytes": 32_617_020,
        "macs": {"exact": 36_242_644_992, "paper": 43_490_402_304},
    }
    student = {
        "params": 823_117,
        "bytes": 3_292_468,
        "macs": {"exact": 3_601_227_008, "paper": 4_255_108_096},
    }
    scratch = student
    budget = {"given": "macs=10%", "resolved": {"macs": 3_624_264_499}}
    return {
        "teacher": teacher,
        "student": student,
        "scratch": scratch,
        "input": [3, 256, 256],
        "budget": budget,
    }


def _plan(rng: np.random.Generator) -> dict[str, Any]:
    groups = [
        {"name": n, "of": w, "kept": k, "removable": False, "frozen": None, "basis": "norm scale"}
        for n, w, k in (("down.1", 64, 24), ("down.4", 128, 40), ("down.7 (trunk)", 256, 88))
    ]
    for block in range(9):
        for branch in range(6):
            kept = 0 if rng.random() < 0.2 else int(rng.integers(1, 30))
            name = f"blocks.{block}.body.0.branches.{branch}"
            groups.append(
                {
                    "name": name,
                    "of": 42,
                    "kept": kept,
                    "removable": True,
                    "frozen": None,
                    "basis": "norm scale",
                }
            )
    groups += [
        {"name": "up.0", "of": 128, "kept": 36, "removable": False, "frozen": None, "basis": "norm scale"},
        {"name": "up.3", "of": 64, "kept": 20, "removable": False, "frozen": None, "basis": "norm scale"},
        {
            "name": "up.7",
            "of": 3,
            "kept": 3,
            "removable": False,
            "frozen": "the network's output",
            "basis": None,
        },
        {
            "name": "input",
            "of": 3,
            "kept": 3,
            "removable": False,
            "frozen": "the network's input",
            "basis": None,
        },
    ]
    layers = [
        {
            "path": group["name"],
            "axis": "out",
            "kept": list(range(int(str(group["kept"])))),
            "of": group["of"],
        }
        for group in groups
    ]
    return {"layers": layers, "groups": groups}


def _metrics() -> dict[str, Any]:
    shared = {"split": "test", "count": 233, "size": "256x256", "seed": 0}
    squeeze = {
        **shared,
        "network": "SqueezeNet 1.1",
        "layer": "features.12",
        "weights": "sha256 b8a52dc0",
        "rank": 232,
    }
    miou = {**shared, "segmenter": "ESPNet", "classes": 11, "weights": "sha256 13ab90ff"}
    values = {
        "miou": ("higher", miou, (41.37, 40.02, 36.55, 4.1, 2.6)),
        "fd_squeezenet": ("lower", squeeze, (58.214, 61.773, 70.9, 520.0, 610.0)),
        "kd_squeezenet": ("lower", {**squeeze, "subsets": 100}, (0.0213, 0.0241, 0.0377, 0.61, 0.68)),
        "psnr": ("higher", shared, (17.42, 17.51, 17.1, 13.02, 9.8)),
        "ssim": ("higher", {**shared, "window": 11}, (0.4831, 0.4779, 0.46, 0.31, 0.04)),
    }
    return {
        network: {
            name: {"value": numbers[place], "better": better, "protocol": protocol}
            for name, (better, protocol, numbers) in values.items()
        }
        for place, network in enumerate(("teacher", "student", "scratch", "mean", "untrained"))
    }


def _latency() -> dict[str, Any]:
    rows = [
        {"network": n, "runtime": r, "threads": 2, "batch": 1, "input": [3, 256, 256], "runs": 30}
        | {"p50_ms": p50, "p95_ms": p95, "iqr_ms": (p95 - p50) / 2}
        for n, r, p50, p95 in (
            ("teacher", "torch", 412.1, 431.7),
            ("student", "torch", 139.42, 151.3),
            ("teacher", "onnxruntime", 348.9, 360.2),
            ("student", "onnxruntime", 85.07, 90.44),
        )
    ]
    ratios = {
        "torch": {"p50": 2.95, "q1": 2.9, "q3": 3.02},
        "onnxruntime": {"p50": 4.11, "q1": 4.05, "q3": 4.17},
    }
    protocol = {"order": "interleaved, rotated every round", "warmup": 3, "rounds": 30, "threads": 2}
    return {"device": "Example CPU 9000", "protocol": protocol, "rows": rows, "ratios": ratios}


def _parity() -> dict[str, Any]:
    entry = {"max_abs_diff": 0.00026, "psnr_db": 134.73, "inputs": 12, "opset": 20, "bytes": 3_410_000}
    return {"student.onnx": entry}


def _env() -> dict[str, Any]:
    command = "ganshrink compress recipes/cat/incres9-camvid.toml run=runs/camvid 'data.root=a & b'"
    return {
        "ganshrink": "0.1.0",
        "python": "3.11.7",
        "torch": "2.13.0",
        "platform": "Linux",
        "cpu": "Example CPU 9000",
    } | {
        "cores": 2,
        "threads": 2,
        "device": "cpu",
        "command": command,
        "seed": 0,
        "started": "2026-11-20T10:00:00Z",
        "git": None,
    }


def _stage(folder: Path, name: str, terms: dict[str, tuple[float, float]], rng: np.random.Generator) -> None:
    root = folder / "stages" / name
    root.mkdir(parents=True)
    done = {
        "seconds": 1873.4 if terms else 1.4,
        "key": f"{zlib.crc32(name.encode()):08x}",
        "code": "5d20e7b1",
        "made_from": {"data": "9f31c2aa", "steps": 3000, "lr": 2e-4, "optim": {"betas": [0.5, 0.999]}},
    }
    _write(root / "done.json", done)
    if not terms:
        return
    lines = []
    for step in range(10, 3001, 10):
        fade = math.exp(-step / 700)
        losses = {
            term: last + (first - last) * fade + 0.12 * abs(first - last) * float(rng.normal())
            for term, (first, last) in terms.items()
        }
        event = {
            "step": step,
            "epoch": step // 100,
            "time": step * 0.62,
            "images": step,
            "losses": losses,
            "lr": 2e-4,
        }
        lines.append(json.dumps(event))
    (root / "events.jsonl").write_text("\n".join(lines) + '\n{"step": 30')


def _samples(folder: Path, rows: int, name: str, rng: np.random.Generator) -> None:
    folder.mkdir()
    listed = []
    for row in range(rows):
        labels, photo = _scene(rng)
        kinds = {
            "input": labels,
            "teacher": photo + rng.normal(0, 6, photo.shape),
            "student": photo + rng.normal(0, 10, photo.shape),
            "target": photo,
        }
        files = {kind: f"{row:03d}_{kind}.png" for kind in kinds}
        for kind, pixels in kinds.items():
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / files[kind])
        listed.append({"name": name if row == 0 else f"{row:04d}", **files})
    _write(folder / "samples.json", {"rows": listed})


def _scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A wall with windows: its label map and a shaded picture of it."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    labels = np.zeros((SIZE, SIZE, 3)) + (0, 80, 200)
    photo = np.stack([150 + 60 * y, 170 + 50 * y, 215 + 20 * y], axis=2)
    top = rng.uniform(0.15, 0.35)
    wall = y > top
    labels[wall] = (200, 160, 40)
    photo[wall] = (np.array(rng.uniform(110, 200, 3)) * (0.7 + 0.5 * x[..., None]))[wall]
    for column in np.linspace(0.12, 0.75, int(rng.integers(2, 5))):
        for storey in np.linspace(top + 0.1, 0.75, 3):
            pane = (abs(x - column - 0.05) < 0.05) & (abs(y - storey) < 0.07)
            labels[pane], photo[pane] = (220, 60, 60), (45, 55, 70)
    return labels, photo
