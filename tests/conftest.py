"""What all tests share; `tiny_recipe` is within their reach."""

import functools
import gc
import logging
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# what several test files share lies beside the tests that it is closest to
sys.path[:0] = [
    str(Path(__file__).parent / room)
    for room in (".", "browser", "graph", "methods", "pruning/search", "training")
]


def pytest_configure() -> None:
    """Ctrl-C means the same everywhere: a suite started in the background inherits that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs first, so that none is left for one worker while the others have nothing more to do."""
    items.sort(key=lambda item: item.path.parent.name not in {"tests", "workflow", "cli"})


def pytest_collection_finish() -> None:
    """What has been imported is never garbage: without this it is walked through again and again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    """torch makes its table of ONNX operators anew for each export, which takes longer than most exports here."""
    module = sys.modules.get("torch.onnx._internal.exporter._registration")  # imported by the first export
    if module is not None and not hasattr(module.ONNXRegistry.from_torchlib, "cache_info"):
        module.ONNXRegistry.from_torchlib = staticmethod(functools.cache(module.ONNXRegistry.from_torchlib))


def pytest_runtest_call() -> None:
    """pytest listens to torch's own trace as well, which then describes every step of every export."""
    logging.getLogger("torch.__trace").handlers.clear()


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """What a command set up for its log is not for the next test."""
    package = logging.getLogger("ganshrink")
    handlers, level = package.handlers[:], package.level
    yield
    package.handlers[:] = handlers
    package.setLevel(level)


@pytest.fixture
def command(monkeypatch, capsys) -> Iterator[Callable[..., tuple[str, str]]]:
    """The command line in this process: most of a launch is Python's imports. It gives what is printed and logged."""
    from ganshrink.cli.main import main

    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: object, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["ganshrink", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert (stop.value.code or 0) == code, err[-2000:]
        return out, err

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def domains(tmp_path) -> dict:
    """Unpaired pictures: 3 of A and 4 of B to train on, 5 and 3 to score."""
    rng = np.random.default_rng(0)
    for split, counts in (("train", {"A": 3, "B": 4}), ("test", {"A": 5, "B": 3})):
        for side, count in counts.items():
            folder = tmp_path / "domains" / f"{split}{side}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 128, (16, 16, 3)) + (128 if side == "B" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return {"name": "unpaired", "root": str(tmp_path / "domains"), "size": 16}


def adds_in_16_bits() -> bool:
    """Whether ONNX Runtime adds pairs of INT8 products in 16 bits here, as it does on x86 without VNNI: these saturate,
    so that a file in integers computes something else than it says (and is refused)."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else "vnni"
    return platform.machine() == "x86_64" and "vnni" not in flags


@pytest.fixture(scope="session")
def exact_integers() -> None:
    """For tests of what INT8 files compute, which this machine may not be able to."""
    if adds_in_16_bits():
        pytest.skip("ONNX Runtime saturates INT8 products on x86 without VNNI")
