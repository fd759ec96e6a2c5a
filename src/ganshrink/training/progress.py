"""How far a training run is: a bar on a terminal, a line every tenth of the way elsewhere, or nothing."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

SHOWN = 4  # loss terms that fit on a line


class ImagesPerSecond(ProgressColumn):
    def __init__(self, images_per_step: int) -> None:
        super().__init__()
        self.images_per_step = images_per_step

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed * self.images_per_step:.1f} img/s" if speed else "- img/s")


class ProgressDisplay:
    """Reports steps of a run to a person. Quiet unless `enabled`.

    Args:
        name: what is being trained.
        done: steps done before.
        total: steps in all.
        images_per_step: over all processes.
        console: where to write; stderr if not given, so that stdout stays a program's answer.
    """

    def __init__(
        self,
        name: str,
        *,
        done: int,
        total: int,
        images_per_step: int,
        enabled: bool,
        console: Console | None = None,
    ) -> None:
        self.name, self.total, self.images_per_step = name, total, images_per_step
        self._console = console or Console(stderr=True)
        self._lines = enabled and not self._console.is_terminal
        self._started, self._first = time.monotonic(), done
        self._losses = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            ImagesPerSecond(images_per_step),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=self._console,
            disable=not enabled or self._lines,
        )
        self._task = self._bar.add_task(name, total=total, completed=done, losses="")

    def step(self, done: int, losses: Mapping[str, float] | None = None) -> None:
        """`done` steps are done; `losses` as far as they are known."""
        if losses:
            self._losses = "  ".join(f"{k} {v:.3g}" for k, v in list(losses.items())[:SHOWN])
        if self._lines:
            if done == self.total or done * 10 // self.total > (done - 1) * 10 // self.total:
                self._console.print(self._line(done), highlight=False, soft_wrap=True)
            return
        self._bar.update(self._task, completed=done, losses=self._losses)

    def _line(self, done: int) -> str:
        speed = (done - self._first) / max(time.monotonic() - self._started, 1e-9)
        left = f", {(self.total - done) / speed:.0f} s left" if done < self.total else ""
        rate = f"{speed * self.images_per_step:.1f} img/s"
        return f"{self.name}: {done}/{self.total} steps, {rate}{left}  {self._losses}".rstrip()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
