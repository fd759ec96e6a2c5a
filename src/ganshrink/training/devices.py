"""Where training runs: device, number format and processes, through Lightning Fabric.

Networks stay bare modules: taps and cuts live on them, and several optimizers share them, which DDP's hooks do not
bear. Instead each update's gradients are averaged once, after all of its losses: one reduction however many batches
are accumulated, and no `no_sync` to forget.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganshrink.system.distributed import (
    broadcast,
    init_distributed,
    max_over_processes,
    mean_over_processes,
    rank_and_world,
)
from ganshrink.training.config import FitConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Machine:
    """One process of a training run, and its way to the others."""

    fabric: "Fabric"
    scaler: torch.amp.GradScaler | None  # only in float16
    channels_last: bool

    def place(self, net: nn.Module) -> None:
        """Move a network here, in place."""
        self.fabric.to_device(net)
        if self.channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch on the device; what is not a tensor is passed on."""
        moved = self.fabric.to_device(batch)
        if not self.channels_last:
            return moved
        return {name: _channels_last(value) for name, value in moved.items()}

    def autocast(self) -> AbstractContextManager:
        return self.fabric.autocast()

    def backward(self, loss: Tensor, params: Sequence[nn.Parameter]) -> None:
        """Add the loss's gradients to those of `params` and of nothing else.

        Naming the leaves freezes every other network for this loss without touching `requires_grad`, so a graph built
        under one update (a fake that D saw) still carries gradients under the next.
        """
        self.fabric.backward(loss, inputs=params)

    def average_gradients(self, params: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their mean over processes. Each process must have used the same parameters."""
        if self.fabric.world_size == 1:
            return
        grads = [p.grad for p in params if p.grad is not None]
        if not grads:
            return
        flat = torch.cat([g.reshape(-1) for g in grads])
        for grad, part in zip(
            grads, mean_over_processes(flat).split([g.numel() for g in grads]), strict=True
        ):
            grad.copy_(part.view_as(grad))

    def reduce(self, values: Tensor, how: str) -> Tensor:
        """Combine a tensor over processes by "mean" or "max"."""
        return max_over_processes(values) if how == "max" else mean_over_processes(values)

    def step(self, optimizers: Sequence[Optimizer]) -> None:
        """Step every optimizer; in float16, skip those whose gradients overflowed, then adapt the scale once."""
        if self.scaler is None:
            for optimizer in optimizers:
                optimizer.step()
            return
        used = [o for o in optimizers if any(p.grad is not None for g in o.param_groups for p in g["params"])]
        for optimizer in used:
            self.scaler.step(optimizer)
        if used:
            self.scaler.update()

    def share(self, net: nn.Module) -> None:
        """Make every process start from the weights of the first."""
        if self.fabric.world_size > 1:
            state = {name: value.cpu() for name, value in net.state_dict().items()}
            net.load_state_dict(broadcast(state))


def _channels_last(value: Any) -> Any:
    """Images, also those among several inputs, with their channels last in memory; all else as it is."""
    if isinstance(value, tuple):
        return tuple(_channels_last(part) for part in value)
    if isinstance(value, Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def open_machine(config: FitConfig) -> Machine:
    """The device, number format and processes that the config and the launcher (torchrun, or none) ask for.

    Raises:
        ValueError: for a GPU that is not there, float16 without one, or several processes without torchrun.
    """
    from lightning_fabric import Fabric  # takes two seconds, so only where training starts
    from lightning_fabric.plugins.precision import MixedPrecision

    check_launch(config)
    cuda = torch.cuda.is_available()
    if config.accelerator == "cuda" and not cuda:
        raise ValueError("accelerator=cuda, but torch sees no GPU here: use accelerator=cpu or auto")
    device = "cpu" if config.accelerator == "cpu" or not cuda else "cuda"
    if config.precision == "16-mixed" and device == "cpu":
        raise ValueError("precision=16-mixed needs a GPU: use bf16-mixed or 32-true on the CPU")
    scaler = torch.amp.GradScaler(device) if config.precision == "16-mixed" else None
    # The scaler is ours, so that several optimizers can step on one scale before it changes.
    mixed = None if config.precision == "32-true" else MixedPrecision(config.precision, device, scaler)
    init_distributed()
    world = rank_and_world()[1]
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        plugins=[mixed] if mixed else None,
    )
    fabric.launch()
    return Machine(fabric, scaler, config.channels_last)


def check_launch(config: FitConfig) -> None:
    """Refuse more processes than were started: a training cannot start them, since it begins in the middle of a command.

    Raises:
        ValueError: if `config.devices` asks for several and torchrun did not start them.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", rank_and_world()[1]))
    if config.devices not in (1, local):
        raise ValueError(
            f"devices = {config.devices}, but {local} process{'es' if local > 1 else ''} started here: leave devices out"
            f" and start as torchrun --nproc-per-node {config.devices} -m ganshrink"
        )


@contextmanager
def settled(machine: Machine, config: FitConfig) -> Iterator[None]:
    """The process-wide settings of a training run, put back afterwards: random state and threads."""
    device = machine.fabric.device
    threads = torch.get_num_threads()
    with torch.random.fork_rng([device] if device.type == "cuda" else [], device_type=device.type):
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
