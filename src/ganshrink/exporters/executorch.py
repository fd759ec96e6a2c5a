"""ExecuTorch with XNNPACK, for phones: one picture of one size at a time."""

import importlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganshrink.data import InputSpec
from ganshrink.exporters.case import single_case
from ganshrink.exporters.exporter import Exporter, Runner
from ganshrink.exporters.graph import silence
from ganshrink.exporters.instance_norm import OwnNorms, centred
from ganshrink.exporters.picture import ImageIO
from ganshrink.exporters.probes import Inputs
from ganshrink.exporters.runtime import load_optional
from ganshrink.exporters.sidecar import place, write_note
from ganshrink.system.generator import Input
from ganshrink.system.spelling import one_line

JOINED = 4  # XNNPACK joins so many tensors at once


class Delegable(OwnNorms):
    """Norms of the image itself as means and rsqrt, mirrored borders as slices that are joined: XNNPACK has these, and
    leaves torch's own operators for them to slower code."""

    def __init__(self) -> None:
        super().__init__(_norm)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.pad and "reflect" in (*args[2:3], kwargs.get("mode")):
            return _mirrored(*args[:2], **{k: v for k, v in kwargs.items() if k == "pad"})
        return super().__torch_function__(func, types, args, kwargs)


def _norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """As `centred_norm`, in operators that XNNPACK has."""
    axes, shape = tuple(range(2, x.dim())), (1, -1, *[1] * (x.dim() - 2))
    flat = centred(centred(x))  # the second mean is of what the first one missed
    normed = flat * torch.rsqrt((flat * flat).mean(axes, keepdim=True) + eps)
    if weight is not None:
        normed = normed * weight.view(shape)
    return normed if bias is None else normed + bias.view(shape)


def _mirrored(x: Tensor, pad: Sequence[int]) -> Tensor:
    """`pad`: how much before and after, the last axis first."""
    for place_ in range(len(pad) // 2):
        axis, (before, after) = x.dim() - 1 - place_, pad[2 * place_ : 2 * place_ + 2]
        last = x.shape[axis] - 1
        if max(before, after) > last:
            raise ValueError(f"a mirrored border of {max(before, after)} pixels is as large as the picture")
        parts = [x.narrow(axis, step, 1) for step in range(before, 0, -1)]
        parts += [x, *(x.narrow(axis, last - step, 1) for step in range(1, after + 1))]
        while len(parts) > 1:
            parts = [torch.cat(parts[at : at + JOINED], axis) for at in range(0, len(parts), JOINED)]
        x = parts[0]
    return x


def export_executorch(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    path: Path | str,
    *,
    inputs: Sequence[Input] = (),
    dynamic_size: bool = False,
    image_io: ImageIO | None = None,
    spec: InputSpec | None = None,
    provenance: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write `path` (.pte) and what it takes (.pte.json): the method `forward`, on a batch of one of the example's size.

    Args:
        image_io: None or `float32`; the rest as for `export_onnx`.

    Returns:
        the file's entry in parity.json, as that of `export_onnx`, from ExecuTorch; `fell_back`: operators that XNNPACK left
        to the portable ones, with their numbers.

    Raises:
        ValueError: the network does not convert, or ExecuTorch computes something else: no new file is left.
    """
    path = Path(path)
    load_optional("executorch", extra="executorch")
    if dynamic_size:
        raise ValueError("ExecuTorch files have one size: export executorch without dynamic_size")
    case = single_case(
        model,
        example,
        inputs=inputs,
        image_io=image_io,
        sizes=None,
        spec=spec,
        provenance=provenance,
        file="ExecuTorch",
    )
    try:
        with silence():
            exir = importlib.import_module("executorch.exir")
            xnnpack = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
            with Delegable():
                program = torch.export.export(case.graph, case.example, strict=False)
            lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
            content = lowered.to_executorch().buffer
    except Exception as error:  # torch and ExecuTorch pass on whatever an operator raises
        raise ValueError(f"the network does not convert to ExecuTorch: {one_line(error)}") from error
    left = _left(lowered.exported_program().graph_module.graph)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "g.pte"
        made.write_bytes(content)
        found = case.entry(open_run(made), "ExecuTorch")
        size = place(made, path)
    write_note(path, case.note)
    return found | {"bytes": size, "fell_back": left}


def _left(graph: Any) -> dict[str, int]:
    """The operators outside of delegates."""
    named = (getattr(node.target, "__name__", str(node.target)) for node in graph.nodes)
    calls = [name for name, node in zip(named, graph.nodes, strict=True) if node.op == "call_function"]
    names = (re.sub(r"^aten\.|\.\w+$", "", name) for name in calls)
    return dict(Counter(n for n in names if n not in ("getitem", "executorch_call_delegate")))


def open_run(path: Path, threads: int | None = None) -> Runner:
    """A .pte file in ExecuTorch on the CPU; `threads` are its own choice."""
    load_optional("executorch", extra="executorch")
    with silence():
        runtime = importlib.import_module("executorch.runtime").Runtime.get()
        method = runtime.load_program(str(path)).load_method("forward")

    def run(batch: Inputs) -> Tensor:
        try:
            return method.execute([tensor.contiguous() for tensor in batch])[0].clone()  # type: ignore[no-any-return]
        except Exception as error:
            raise ValueError(f"ExecuTorch cannot run the file: {one_line(error)}") from error

    return run


PYTHON = """\
import torch
from executorch.runtime import Runtime

method = Runtime.get().load_program("{file}").load_method("forward")
image = method.execute([torch.from_numpy(batch).contiguous()])[0].numpy()
"""

EXECUTORCH = Exporter(
    "student.pte",
    export_executorch,
    "an ExecuTorch file for phones (XNNPACK), compared with torch in ExecuTorch",
    beside=("student.pte.json",),
    extra="executorch",
    runtime="executorch",
    open=open_run,
    python=PYTHON,
)
