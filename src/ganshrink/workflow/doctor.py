"""What is installed here and whether it works: for who installs the package, and for reports of errors."""

import importlib
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ganshrink import nets
from ganshrink.exporters import export_onnx, runtime
from ganshrink.graph import trace
from ganshrink.pruning import extract, prune, zeroed
from ganshrink.system.copies import in_evaluation
from ganshrink.system.machine import core_count, cpu_name

REQUIRED = ("ganshrink", "torch", "numpy", "pillow", "pydantic", "typer", "safetensors", "torchmetrics")
EXTRAS = {  # the modules of each extra, as in pyproject.toml
    **runtime.EXTRAS,
    "report": ("jinja2", "matplotlib"),
    "tensorboard": ("tensorboard",),
    "perceptual": ("stlpips_pytorch",),
    "cluster": ("distributed",),
    "video": ("av",),
    "hub": ("huggingface_hub",),
    "docs": ("zensical", "mkdocstrings"),
}
FOLDERS = ("GANSHRINK_DATA", "GANSHRINK_WEIGHTS")
TOLERANCE = 1e-4  # between two float32 networks that compute the same, with outputs in [-1, 1]


def examine() -> dict[str, Any]:
    """Versions, extras, devices, threads, folders and a self-test, ready for JSON."""
    extras = {name: _extra(name, modules) for name, modules in EXTRAS.items()}
    return {
        "system": {"python": platform.python_version(), "at": sys.executable, "system": platform.platform()},
        "versions": {name: _version(name) for name in REQUIRED},
        "extras": extras,
        "devices": [f"cpu: {cpu_name()}", *_gpus()],
        "threads": {
            "cores": core_count(),
            "torch": torch.get_num_threads(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        "folders": {name: _folder(os.environ.get(name)) for name in FOLDERS},
        "self_test": self_test(with_onnx="onnx" in extras and not extras["onnx"]["missing"]),
    }


def self_test(*, with_onnx: bool) -> dict[str, Any]:
    """Trace a tiny generator, cut it, compare the student with the cut taken as zeros, and export it.

    Returns:
        `passed`, `problem` (one line, or None), `seconds`, and how far student and ONNX file are off.
    """
    start, found = time.perf_counter(), {}
    problem = None
    try:
        found = _cut_and_compare(with_onnx)
        if not found["max_abs_diff"] <= TOLERANCE:
            problem = f"the student differs from the network with zeros by {found['max_abs_diff']:.2g}"
    except Exception as error:  # whatever is wrong here, the rest of the answer is still wanted
        problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    seconds = round(time.perf_counter() - start, 1)
    return {"passed": problem is None, "problem": problem, "seconds": seconds, **found}


def _cut_and_compare(with_onnx: bool) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, image = nets.build("resnet9", ngf=8, blocks=1), torch.rand(1, 3, 32, 32) * 2 - 1
    model.eval()
    channels = trace(model, image)
    plan = prune(model, channels, "macs=50%")
    student = in_evaluation(extract(model, channels, plan))
    with torch.no_grad():
        diff = (student(image) - in_evaluation(zeroed(model, channels, plan))(image)).abs().max().item()
    macs = {"before": channels.cost().macs, "after": channels.cost(plan).macs}
    if not with_onnx:
        return {"macs": macs, "max_abs_diff": diff, "onnx": None}
    with tempfile.TemporaryDirectory(prefix="ganshrink-") as folder:
        entry = export_onnx(student, image, Path(folder) / "student.onnx")
    return {"macs": macs, "max_abs_diff": diff, "onnx": {"levels_of_255": entry["max_abs_diff"]}}


def _extra(name: str, modules: tuple[str, ...]) -> dict[str, Any]:
    """The versions of an extra's packages, why the others do not import, and the line that installs them."""
    present, missing = {}, {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # half-installed or mismatched packages raise far more than ImportError
            missing[module] = (str(error).strip().splitlines() or [type(error).__name__])[0]
        else:
            present[module] = _version(module)
    install = f'pip install "ganshrink[{name}]"' if missing else None
    return {"present": present, "missing": missing, "install": install}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another distribution of the module, such as onnxruntime-gpu
        return str(getattr(sys.modules.get(package), "__version__", "unknown"))


def _gpus() -> list[str]:
    found = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        found.append(f"cuda:{index}: {about.name}, {about.total_memory / 2**30:.0f} GiB")
    return found


def _folder(path: str | None) -> dict[str, Any]:
    """What an environment variable names, and whether it is there."""
    return {"path": path or None, "found": Path(path).is_dir() if path else False}
