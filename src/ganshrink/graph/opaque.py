"""Frozen submodules that cannot be exported: stand-ins of the same output shapes, from one real run."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from ganshrink.system.copies import copied, in_evaluation


class _Recorder(nn.Module):
    """Runs the real module and notes what it puts out and what it costs."""

    def __init__(self, real: nn.Module) -> None:
        super().__init__()
        self.real = real
        self.outputs: list[Any] = []
        self.macs = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            out = self.real(*args, **kwargs)
        self.macs += counter.get_total_flops() // 2
        self.outputs.append(pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), out))
        return out


class _StandIn(nn.Module):
    """Takes all inputs, puts out tensors of the recorded shapes, call by call."""

    def __init__(self, outputs: Sequence[Any]) -> None:
        super().__init__()
        self.outputs, self.calls = outputs, 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        touched = sum(t.sum() for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor))
        recorded = self.outputs[self.calls % len(self.outputs)]
        self.calls += 1
        return pytree.tree_map_only(
            torch.Tensor,
            lambda t: (touched * 0 + torch.zeros(t.shape, device=t.device)).to(t.dtype),
            recorded,
        )


def with_stand_ins(plain: nn.Module, paths: Sequence[str], example: tuple[Any, ...]) -> tuple[nn.Module, int]:
    """A copy whose submodules at `paths` are stand-ins, and the multiply-accumulates of the real ones on the example."""
    outermost = [p for p in dict.fromkeys(paths) if not any(p.startswith(f"{other}.") for other in paths)]
    recorders = {path: _Recorder(plain.get_submodule(path)) for path in outermost}
    with torch.no_grad():
        _replaced(plain, recorders)(*example)
    for path, recorder in recorders.items():
        if not recorder.outputs:
            raise ValueError(f"the frozen submodule {path} is never called")
    stand_ins = {path: _StandIn(recorder.outputs) for path, recorder in recorders.items()}
    return _replaced(plain, stand_ins), sum(r.macs for r in recorders.values())


def twin(plain: nn.Module) -> nn.Module:
    """Another module on the same parameters: what user code keeps in attributes while it is exported goes there."""
    return _replaced(plain, {})


def _replaced(plain: nn.Module, parts: dict[str, Any]) -> nn.Module:
    memo: dict[int, Any] = {id(t): t for t in [*plain.parameters(), *plain.buffers()]}
    memo |= {id(plain.get_submodule(path)): part for path, part in parts.items()}
    return in_evaluation(copied(plain, memo))
