"""What a user hands over in Python, data and an example input: opened, and checked against the task and each other."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.data import Images, InputsAlone, TensorInputs, TensorPairs, check, hold_out, input_spec
from ganshrink.system.generator import as_tuple, batch_of_one
from ganshrink.training.stamps import with_source
from ganshrink.workflow.recipe import Recipe

logger = logging.getLogger(__name__)


def open_given(
    data: Any, recipe: Recipe, example: Tensor | Sequence[Tensor] | None = None
) -> tuple[Images, Images]:
    """Training images and every tenth, held out of them, from a data set or a sequence of what the task learns from.

    Args:
        recipe: of its task; with targets to learn from, elements are (input, target); with none (image2image), inputs alone.
        example: of the generator's inputs; gives their types.

    Raises:
        ValueError: if elements are not what the task wants, or cannot be used.
    """
    images = data if isinstance(data, Images) else _of_tensors(data, recipe, example)
    problems = check(images)
    if problems:
        raise ValueError("; ".join(problems[:5]))
    kept, held = hold_out(images)
    return with_source(kept), held


def _of_tensors(data: Any, recipe: Recipe, example: Tensor | Sequence[Tensor] | None) -> Images:
    if recipe.task_type.needs == {"target"}:
        raise ValueError(
            f"{wanted(recipe)}: give the settings of a data set, such as {{'name': 'unpaired', 'root': 'horses'}}"
        )
    dtypes = None if example is None else [tensor.dtype for tensor in _tensors(example)]
    kind = TensorPairs if recipe.task_type.needs else TensorInputs
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise ValueError(
            f"data must be a sequence or a data set, got {type(data).__name__}: {wanted(recipe)}"
        )
    try:
        return kind(data, dtypes=dtypes)
    except ValueError as error:
        raise ValueError(f"{wanted(recipe)}: {error}") from None


def in_single(
    network: nn.Module, example: Tensor | Sequence[Tensor] | None
) -> tuple[nn.Module, Tensor | Sequence[Tensor] | None]:
    """A generator, and an example for it, in float32, whatever precision they came in: students are trained in that."""
    kinds = sorted({str(p.dtype) for p in network.parameters() if p.is_floating_point()} - {"torch.float32"})
    if kinds:
        logger.warning("the generator is in %s and is taken in float32, as by .float()", " and ".join(kinds))
        network = network.float()
    if example is not None:
        tensors = _tensors(example)
        example = tuple(tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors)
    return network, example


def open_beside(unlabelled: Any, pairs: Images) -> Images:
    """Inputs without targets, from a data set or a sequence of inputs, to train on beside pairs.

    Raises:
        ValueError: if they are none, cannot be used, or are not of the shapes and types of the pairs' inputs.
    """
    had = batch_of_one(pairs.sample(0, None)["input"])
    if not isinstance(unlabelled, Images):
        if not hasattr(unlabelled, "__len__") or not hasattr(unlabelled, "__getitem__"):
            kind = type(unlabelled).__name__
            raise ValueError(f"unlabelled must be a sequence of inputs, or a data set, got {kind}")
        try:
            unlabelled = TensorInputs(unlabelled, dtypes=[tensor.dtype for tensor in had])
        except ValueError as error:
            raise ValueError(f"unlabelled: {error}") from None
    problems = check(unlabelled)
    if problems:
        raise ValueError(f"unlabelled: {'; '.join(problems[:5])}")
    given = batch_of_one(unlabelled.sample(0, None)["input"])
    if _written(given) != _written(had):
        raise ValueError(
            f"unlabelled inputs are {_written(given)}, those of the pairs {_written(had)}: all must be alike, so resize or "
            "crop them"
        )
    return InputsAlone(unlabelled)


def wanted(recipe: Recipe) -> str:
    """What a task learns from, in words."""
    if "pairs" in recipe.task_type.needs:
        what = "pairs (input, target)"
    else:
        what = "two sets of unpaired images" if recipe.task_type.needs else "inputs alone, without targets"
    return f"task {recipe.task.name} learns from {what}"


def example_of(
    example: Tensor | Sequence[Tensor] | None, images: Images, recipe: Recipe
) -> tuple[Tensor, ...]:
    """The inputs that a network is traced with: those given, where they fit the data, else of the data's first sample.

    Compared are how many there are, their types, and all of their shapes but the batch, and an image's height and width.

    Raises:
        ValueError: if the task takes one input alone, or the example is not like the data.
    """
    sample = batch_of_one(images.sample(0, None)["input"])
    inputs = sample if example is None else tuple(tensor.detach().cpu() for tensor in _tensors(example))
    if len(inputs) != len(sample):
        raise ValueError(
            f"the example has {_count(inputs)}, a sample of the data {_count(sample)}: give as many ({wanted(recipe)})"
        )
    for place, (given, had) in enumerate(zip(inputs, sample, strict=True)):
        if given.ndim != had.ndim or _fixed(given) != _fixed(had):
            shape = ", ".join(["B", *map(str, had.shape[1:])])
            raise ValueError(
                f"input {place} of the example is {tuple(given.shape)}, where the data have ({shape}): only the batch B "
                "and an image's height and width may differ"
            )
        if given.dtype != had.dtype:
            raise ValueError(
                f"input {place} of the example is {given.dtype}, of the data {had.dtype}: give both one type"
            )
    if len(inputs) > 1 and recipe.task_type.both_ways:
        raise ValueError(
            f"task {recipe.task.name} goes both ways, from one image to one, and this generator takes {_count(inputs)}: "
            "use task = 'pix2pix' or 'image2image'"
        )
    if images.in_channels and input_spec(images).kind == "labels":
        inputs = (torch.zeros_like(inputs[0]),)
        inputs[0][:, 0] = 1  # a map of class 0: what follows from it must see what the data are
    return inputs


def _tensors(example: Any) -> tuple[Tensor, ...]:
    parts = example if isinstance(example, tuple | list) else (example,)
    wrong = next((part for part in parts if not isinstance(part, Tensor)), None)
    if wrong is not None or not parts:
        kind = type(wrong).__name__ if parts else "none"
        raise ValueError(f"the example must be a tensor, or a tuple of them for several inputs, got {kind}")
    return tuple(part.float() if part.is_floating_point() else part for part in as_tuple(parts))


def _written(inputs: Sequence[Tensor]) -> str:
    """Shapes of one sample, and types where these are not those of images."""
    kinds = ["" if tensor.dtype == torch.float32 else f" of {tensor.dtype}" for tensor in inputs]
    return " and ".join(f"{tuple(each.shape[1:])}{kind}" for each, kind in zip(inputs, kinds, strict=True))


def _fixed(tensor: Tensor) -> tuple[int, ...]:
    """What of a shape must be the same in every batch."""
    return tuple(tensor.shape[1:2] if tensor.ndim == 4 else tensor.shape[1:])


def _count(inputs: Sequence[Tensor]) -> str:
    return f"{len(inputs)} input{'' if len(inputs) == 1 else 's'}"
