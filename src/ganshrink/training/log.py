"""What a training run says: means of the loss terms, as lines of JSON."""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganshrink.system.atomic import replacing


class NonFiniteLoss(RuntimeError):
    """A loss term or a weight became NaN or infinite."""


class Meter:
    """Means of loss terms since the last reading, and the first step at which one was not finite.

    Everything stays on the device until it is read: a step must not wait for the GPU.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._bad: dict[str, Tensor] = {}
        self._updates: dict[str, str] = {}

    @torch.no_grad()
    def add(self, update: str, terms: Mapping[str, Tensor], *, step: int) -> None:
        for name, term in terms.items():
            value = term.detach().float()
            if name not in self._bad:
                self._updates[name] = update
                self._bad[name] = torch.full((), -1, dtype=torch.int64, device=value.device)
            known = torch.isfinite(value) | (self._bad[name] >= 0)
            self._bad[name] = torch.where(known, self._bad[name], step)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self, reduce: Callable[[Tensor, str], Tensor]) -> dict[str, float]:
        """The means, over all processes; the meter starts anew.

        Args:
            reduce: combines a tensor over processes by "mean" or "max".

        Raises:
            NonFiniteLoss: if a term was not finite, for the first step at which one was.
        """
        if not self._sums:
            return {}
        bad = reduce(torch.stack(list(self._bad.values())), "max").tolist()
        failures = [(step, name) for step, name in zip(bad, self._bad, strict=True) if step >= 0]
        if failures:
            step, name = min(failures)
            raise NonFiniteLoss(
                f"loss term {name} of update {self._updates[name]} was not finite at step {step}; what is saved is from"
                " before. A lower learning rate or precision 32-true may help"
            )
        means = torch.stack([total / self._counts[name] for name, total in self._sums.items()])
        result = dict(zip(self._sums, reduce(means, "mean").tolist(), strict=True))
        self._sums, self._counts = {}, {}
        return result


class Events:
    """`events.jsonl`: one line for every reading of the meter, and the same to TensorBoard if asked.

    Args:
        path: the file. Lines of an earlier attempt after `step` are dropped, so that no step is there twice.
        step: steps already done.
        tensorboard: write TensorBoard files next to it.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if TensorBoard is asked for and not installed.
    """

    def __init__(self, path: Path, *, step: int, tensorboard: bool = False) -> None:
        _drop_after(path, step)
        self._writer = _tensorboard_writer(path.parent / "tensorboard", step) if tensorboard else None
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(event, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise OSError(f"cannot write {self._file.name}: {error.strerror}") from error
        if self._writer is not None:
            for name, value in event["losses"].items():
                self._writer.add_scalar(name, value, event["step"])

    def close(self) -> None:
        with suppress(OSError):  # what a full disk did not take has been told
            self._file.close()
        if self._writer is not None:
            self._writer.close()


def check_finite(tensors: Mapping[str, Tensor], *, step: int) -> None:
    """Refuse weights that are not finite: a bad gradient spoils them before any loss shows it.

    Raises:
        NonFiniteLoss: naming the first such tensor.
    """
    sums = {
        name: t.detach().float().abs().sum(dtype=torch.float64)
        for name, t in tensors.items()
        if t.is_floating_point()
    }
    if not sums:
        return
    for name, total in zip(sums, torch.stack(list(sums.values())).tolist(), strict=True):
        if not math.isfinite(total):
            raise NonFiniteLoss(
                f"{name} was not finite after {step} steps although every loss was (a gradient must have been);"
                " the last checkpoint is from before"
            )


def _drop_after(path: Path, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (KeyError, TypeError, ValueError):  # the line that a full disk or a power cut cut short
            continue
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def _tensorboard_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("tensorboard=true needs TensorBoard: pip install 'ganshrink[tensorboard]'") from None
    return SummaryWriter(folder, purge_step=step)
