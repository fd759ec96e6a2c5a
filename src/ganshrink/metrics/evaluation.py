"""Score a generator on held-out batches: one pass over the images, all metrics at once."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ganshrink.metrics.value import TRUNCATION, Metric, Pictures, Value
from ganshrink.system.generator import as_tuple, generate


def evaluate(
    generator: nn.Module,
    batches: Iterable[dict[str, Any]],
    metrics: Sequence[Metric],
    *,
    teacher: nn.Module | None = None,
    device: str | torch.device = "cpu",
    limit: int | None = None,
    truncate: bool = False,
) -> dict[str, Value]:
    """Metric values of a generator by name, in the order of `metrics`, which are reset first.

    Metrics of agreement with a teacher are left out where no `teacher` is given (as when the teacher itself
    is scored). Training flags of both networks are restored; they must already lie on `device`.

    Args:
        batches: finite; dicts with "input" (N, C, H, W), or a tuple of tensors for a generator of several, "target"
            (N, C, H, W) in [-1, 1]; for miou "labels"; for inputs and targets that do not belong together
            `"paired": False`, either of them left out where there are no more.
        limit: score at most this many images.
        truncate: generated pictures to uint8, instead of rounding them.

    Raises:
        ValueError: no images, images of another shape than the target's, NaN in an output, labels missing, an output that
            is not one image.
    """
    wanted = [metric for metric in metrics if teacher is not None or "teacher" not in metric.needs]
    for metric in wanted:
        metric.reset()
    count = 0
    with torch.no_grad(), evaluating(generator, teacher):
        for batch in batches if wanted else ():
            batch = _first(batch, None if limit is None else limit - count)
            pictures = _generate(generator, batch, teacher=teacher, device=device)
            pictures.truncate = truncate
            for metric in wanted:
                metric.update(pictures)
            count += max(len(images) for images in (pictures.fake, pictures.target) if images is not None)
            if count == limit:
                break
    if wanted and not count:
        raise ValueError("there are no images to score: the split is empty")
    values = {metric.name: metric.compute() for metric in wanted}
    if not truncate:
        return values
    return {
        name: replace(value, protocol=value.protocol | {"quantisation": TRUNCATION})
        for name, value in values.items()
    }


def give_reals(
    metrics: Iterable[Metric], batches: Iterable[dict[str, Any]], *, device: str | torch.device = "cpu"
) -> None:
    """Show the targets of batches to the distances that want other reals than those of the images scored; once, however
    many networks are scored then."""
    wanting: list[Any] = [metric for metric in metrics if getattr(metric, "reals", "scored") != "scored"]
    for batch in batches if wanting else ():
        if batch.get("target") is None:
            continue
        pictures = Pictures(fake=None, target=batch["target"].to(device), paired=False)
        with torch.no_grad():
            for metric in wanting:
                metric.add_reals(pictures)


def _first(batch: dict[str, Any], count: int | None) -> dict[str, Any]:
    first: dict[str, Any] = {
        key: batch[key][:count] if batch.get(key) is not None else None for key in ("target", "labels")
    }
    inputs = batch.get("input")
    first["input"] = None if inputs is None else tuple(tensor[:count] for tensor in as_tuple(inputs))
    return first | {"paired": batch.get("paired", True)}


def _generate(
    generator: nn.Module, batch: dict[str, Any], *, teacher: nn.Module | None, device: str | torch.device
) -> Pictures:
    target, labels = (None if batch[key] is None else batch[key].to(device) for key in ("target", "labels"))
    inputs = None if batch["input"] is None else tuple(tensor.to(device) for tensor in batch["input"])
    return Pictures(
        fake=None if inputs is None else generate(generator, inputs),
        target=target,
        labels=labels,
        teacher=None if teacher is None or inputs is None else generate(teacher, inputs),
        paired=batch["paired"],
        inputs=inputs,
        generator=lambda inputs: generate(generator, inputs),
    )


@contextmanager
def evaluating(*networks: nn.Module | None) -> Iterator[None]:
    """Eval mode; afterwards every submodule's own flag as it was (there may be a frozen norm in training)."""
    flags = [
        (module, module.training)
        for network in networks
        if network is not None
        for module in network.modules()
    ]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, training in flags:
            module.training = training
