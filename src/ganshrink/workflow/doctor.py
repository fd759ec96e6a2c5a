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

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganshrink import nets
from ganshrink.exporters import export_onnx, runtime
from ganshrink.graph import trace
from ganshrink.pruning import extract, prune, zeroed
from ganshrink.system.copies import in_evaluation
from ganshrink.system.machine import core_count, cpu_name
from ganshrink.system.spelling import one_line

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


def examine(*, full: bool = False) -> dict[str, Any]:
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
        "self_test": self_test(full=full, with_onnx="onnx" in extras and not extras["onnx"]["missing"]),
    }


def self_test(*, full: bool = False, with_onnx: bool = True) -> dict[str, Any]:
    """Try what all verbs stand on (`_differences`, files that come back); `full`: trace, cut and export a generator too,
    which takes several seconds for torch's exporter alone.

    Returns:
        `passed`, `problem` (one line, or None), `seconds`, `full`, `max_abs_diff` by what was compared, and of a full one
        the `macs` and how far the ONNX file is off.
    """
    start, problem = time.perf_counter(), None
    found: dict[str, Any] = {"full": full, "max_abs_diff": {}}
    try:
        found["max_abs_diff"] |= _differences()
        _write_and_read()
        if full:
            found |= _trace_and_export(found["max_abs_diff"], with_onnx=with_onnx)
    except Exception as error:  # whatever is wrong here, the rest of the answer is still wanted
        problem = f"{type(error).__name__}: {one_line(error)}"
    for what, by in found["max_abs_diff"].items():
        if not by <= TOLERANCE:
            problem = f"{what} is off by {by:.2g}"
    seconds = round(time.perf_counter() - start, 1)
    return {"passed": problem is None, "problem": problem, "seconds": seconds, **found}


def _differences() -> dict[str, float]:
    """A convolution and its gradient in torch against numpy in float64; half of its channels cut against them at zero."""
    rng = np.random.default_rng(0)
    image, first, last = rng.random((2, 3, 32, 32)), rng.random((16, 3, 3, 3)), rng.random((3, 16, 1, 1)) / 16
    given: Any = {"dtype": torch.float32, "requires_grad": True}
    x, w, v = (torch.tensor(array, **given) for array in (image, first, last))
    made = F.conv2d(x, w)
    made.sum().backward()
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), (2, 3))
    zeros, kept = torch.arange(16).view(-1, 1, 1) % 2, slice(1, None, 2)
    return {
        "a convolution": _most(made, np.einsum("bchwij,ocij->bohw", windows, first)),
        # each weight's is the sum of all that it was multiplied by
        "a gradient": _most(w.grad / image[0, 0].size, windows.sum((0, 2, 3)) / image[0, 0].size),
        "a cut network": _most(
            F.conv2d(F.conv2d(x, w[kept]), v[:, kept]), F.conv2d(made * zeros, v).detach().numpy()
        ),
    }


def _most(found: Tensor, expected: NDArray[Any]) -> float:
    return float(np.abs(found.detach().numpy() - expected).max())


def _write_and_read() -> None:
    """Weights and pictures come back as they were written.

    Raises:
        ValueError: if they do not.
    """
    levels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    with tempfile.TemporaryDirectory(prefix="ganshrink-") as folder:
        weights, picture = Path(folder) / "weights.safetensors", Path(folder) / "picture.png"
        save_file({"levels": torch.from_numpy(levels)}, weights)
        Image.fromarray(levels).save(picture)
        for file, back in (
            (weights, load_file(weights)["levels"].numpy()),
            (picture, np.asarray(Image.open(picture))),
        ):
            if not np.array_equal(back, levels):
                raise ValueError(f"{file.name} does not hold what was written into it")


def _trace_and_export(differences: dict[str, float], *, with_onnx: bool) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, image = nets.build("resnet9", ngf=8, blocks=1), torch.rand(1, 3, 32, 32) * 2 - 1
    model.eval()
    channels = trace(model, image)
    plan = prune(model, channels, "macs=50%")
    student = in_evaluation(extract(model, channels, plan))
    with torch.no_grad():
        zeros = in_evaluation(zeroed(model, channels, plan))(image)
        differences["an extracted student"] = _most(student(image), zeros.numpy())
    macs = {"before": channels.cost().macs, "after": channels.cost(plan).macs}
    if not with_onnx:
        return {"macs": macs, "onnx": None}
    with tempfile.TemporaryDirectory(prefix="ganshrink-") as folder:
        entry = export_onnx(student, image, Path(folder) / "student.onnx")
    return {"macs": macs, "onnx": {"levels_of_255": entry["max_abs_diff"]}}


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
