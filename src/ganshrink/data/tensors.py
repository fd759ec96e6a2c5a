"""Data sets made of what a user already holds in memory, and parts of data sets."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganshrink.data.images import Images, files_of, is_paired, num_inputs, stored_target, target_size
from ganshrink.data.inputs import InputSpec, preview_input
from ganshrink.system.generator import Input, as_tuple, batch_of_one, image_like


class TensorInputs:
    """Inputs without targets as a data set, for a generator that is its own teacher.

    How many channels it makes nothing here tells: `out_channels` are 3 until somebody knows better.

    An input is a tensor, or a tuple of tensors for a generator of several: images (C, H, W) in [-1, 1] or one-hot,
    vectors (D,), int64 class ids. Its `size` is that of the first image.

    Args:
        dtypes: of each tensor, where they are known (a generator's example input has them): whole numbers become what is
            wanted, fractions float32. Without, int64 stays and all else becomes float32.

    Raises:
        ValueError: if there is no input, one is not made of tensors, or the shapes differ between inputs.
    """

    def __init__(self, inputs: Sequence[Input], *, dtypes: Sequence[torch.dtype] | None = None) -> None:
        if not len(inputs):
            raise ValueError("there are no inputs: give at least one")
        wanted = "an input, (C, H, W) or a tuple of several tensors"
        self.inputs, self.dtypes = inputs, dtypes
        _check_alike((_tensors(element, f"element {i}", wanted) for i, element in enumerate(inputs)), "input")
        self.size, self.out_channels = _first_sides(inputs[0]) or (1, 1), 3
        first_input = self.sample(0, None)["input"]
        self.in_channels, self.spec = _image_channels(first_input, self.size), _label_spec(first_input)

    def __len__(self) -> int:
        return len(self.inputs)

    def problems(self) -> list[str]:
        """A line for each element that is not finite, or an image out of range."""
        return _unsound(self)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        return {"input": _input(self.inputs[index], self.dtypes), "name": f"{index:04d}"}

    def fingerprint(self) -> str:
        return _hash(_input(element, self.dtypes) for element in self.inputs)

    def preview(self, input: Tensor) -> np.ndarray:
        return preview_input(input, self.spec)


class TensorPairs:
    """Pairs of input and target (C, H, W), both in [-1, 1], as a data set. Inputs are as in `TensorInputs`.

    Attributes:
        size: (H, W) of the input, where that is one image; else of the targets.
        target_size: (H, W) of the targets.

    Args:
        dtypes: as in `TensorInputs`.

    Raises:
        ValueError: if there is no pair, an element is none, or the shapes differ between pairs.
    """

    def __init__(
        self, pairs: Sequence[tuple[Input, Tensor]], *, dtypes: Sequence[torch.dtype] | None = None
    ) -> None:
        if not len(pairs):
            raise ValueError("there are no pairs: give at least one (input, target)")
        self.pairs, self.dtypes = pairs, dtypes
        _check_alike((_pair_tensors(pair, index) for index, pair in enumerate(pairs)), "pair")
        source, target = pairs[0]
        self.target_size, self.out_channels = _sides(target), target.shape[0]
        single = len(as_tuple(source)) == 1
        self.size = (_first_sides(source) if single else None) or self.target_size
        first_input = self.sample(0, None)["input"]
        self.in_channels, self.spec = _image_channels(first_input, self.size), _label_spec(first_input)

    def __len__(self) -> int:
        return len(self.pairs)

    def problems(self) -> list[str]:
        """A line for each element that is not finite, or an image out of range."""
        return _unsound(self)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        source, target = self.pairs[index]
        return {"input": _input(source, self.dtypes), "target": target.float(), "name": f"{index:04d}"}

    def fingerprint(self) -> str:
        return _hash(
            (*as_tuple(_input(source, self.dtypes)), target.float()) for source, target in self.pairs
        )

    def preview(self, input: Tensor) -> np.ndarray:
        return preview_input(input, self.spec)


def _label_spec(input: Input) -> InputSpec | None:
    """What a one-hot label map is: at every pixel one of several channels is one, the others zero. Else none."""
    if not isinstance(input, Tensor) or input.ndim != 3 or input.shape[0] < 2:
        return None
    if not bool(((input == 0) | (input == 1)).all()) or not bool((input.sum(0) == 1).all()):
        return None
    channels, height, width = input.shape
    return InputSpec(kind="labels", channels=channels, size=(height, width))


def _unsound(images: Images) -> list[str]:
    problems = []
    for index in range(len(images)):
        sample = images.sample(index, None)
        tensors = {f"input {place}": tensor for place, tensor in enumerate(as_tuple(sample["input"]))}
        if "target" in sample:
            tensors["target"] = sample["target"]
        for name, tensor in tensors.items():
            size = target_size(images) if name == "target" else images.size
            image = tensor.ndim == 3 and tuple(tensor.shape[1:]) == size
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                problems.append(f"element {index}: {name} holds NaN or infinite values")
            elif tensor.is_floating_point() and image and bool((tensor.abs() > 1.001).any()):
                reach = float(tensor.abs().max())
                problems.append(f"element {index}: {name} reaches {reach:.4g}: scale it to [-1, 1]")
    return problems


def _tensors(input: Any, where: str, wanted: str) -> tuple[Tensor, ...]:
    """The tensors of one input."""
    tensors = tuple(input) if isinstance(input, tuple | list) else (input,)
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        kinds = ", ".join(type(tensor).__name__ for tensor in tensors) or "nothing"
        raise ValueError(f"{where} of the data is {kinds}: it must be {wanted}")
    if len(tensors) == 1 and tensors[0].ndim > 3:
        raise ValueError(
            f"{where} of the data has a tensor {tuple(tensors[0].shape)}: pictures are (C, H, W), without a batch "
            "axis; volumes (C, D, H, W) and films have no place here"
        )
    return tensors


def _pair_tensors(pair: Any, index: int) -> tuple[Tensor, ...]:
    """The tensors of one pair, its target last."""
    where, wanted = f"element {index}", "(input, target), target (C, H, W)"
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        size = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
        raise ValueError(f"{where} of the data is a {type(pair).__name__}{size}: it must be {wanted}")
    tensors = (*_tensors(pair[0], where, wanted), *_tensors(pair[1], where, wanted))
    if isinstance(pair[1], tuple | list) or tensors[-1].ndim != 3:
        raise ValueError(
            f"{where} of the data has a target {tuple(tensors[-1].shape)}: it must be (C, H, W), one tensor"
        )
    return tensors


def _check_alike(elements: Iterable[tuple[Tensor, ...]], kind: str) -> None:
    first: list[tuple[int, ...]] = []
    for index, tensors in enumerate(elements):
        shapes = [tuple(tensor.shape) for tensor in tensors]
        first = first or shapes
        if shapes != first:
            given, before = (" and ".join(map(str, each)) for each in (shapes, first))
            raise ValueError(f"{kind} {index} has shapes {given}, {kind} 0 has {before}: all must be alike")


def _input(input: Input, dtypes: Sequence[torch.dtype] | None) -> Input:
    """One input, its tensors of the types that a network takes."""
    tensors = as_tuple(input)
    wanted = dtypes if dtypes is not None and len(dtypes) == len(tensors) else [None] * len(tensors)
    typed = tuple(_typed(tensor, dtype) for tensor, dtype in zip(tensors, wanted, strict=True))
    return typed[0] if isinstance(input, Tensor) else typed


def _typed(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None:
        dtype = torch.int64 if tensor.dtype == torch.int64 else torch.float32
    if tensor.is_floating_point() and not dtype.is_floating_point:
        return (
            tensor.float()
        )  # whoever compares types refuses it: no id that is a fraction is cut off in silence
    return tensor.to(dtype)


def _first_sides(input: Input) -> tuple[int, int] | None:
    """(H, W) of the first image of an input."""
    return next((_sides(tensor) for tensor in as_tuple(input) if tensor.ndim == 3), None)


def _sides(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def _image_channels(input: Input, size: tuple[int, int]) -> int:
    return sum(image.shape[1] for image in image_like(batch_of_one(input), size))


def _hash(elements: Iterable[Input]) -> str:
    digest = hashlib.sha256()
    for element in elements:
        for tensor in as_tuple(element):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class Subset:
    """Some samples of a data set, by index."""

    def __init__(self, whole: Images, indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, list(indices)
        self.in_channels, self.out_channels, self.size = whole.in_channels, whole.out_channels, whole.size
        self.spec, self.target_size = getattr(whole, "spec", None), target_size(whole)
        self.paired = is_paired(whole)
        inputs = num_inputs(whole)
        self.num_inputs = sum(index < inputs for index in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        return self.whole.sample(self.indices[index], rng)

    def stored_target(self, index: int) -> Tensor | None:
        return stored_target(self.whole, self.indices[index])

    def files(self) -> list[tuple[Path, ...]] | None:
        whole = files_of(self.whole)
        return None if whole is None else [whole[index] for index in self.indices]

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.whole.fingerprint()} {self.indices}".encode()).hexdigest()[:16]

    def preview(self, tensor: Tensor) -> np.ndarray:
        return self.whole.preview(tensor)


def hold_out(dataset: Images, *, every: int = 10) -> tuple[Subset, Subset]:
    """The data set without every tenth sample, and those samples.

    Raises:
        ValueError: if fewer than two samples are there, or they are unpaired, so that a sample's partner is any image.
    """
    if not is_paired(dataset):
        raise ValueError(
            "unpaired images have no samples to keep apart: give the settings of a data set with train and test folders"
        )
    if len(dataset) < 2:
        raise ValueError("at least two samples are needed: one to train on, one to score")
    held = range(0, len(dataset), every)
    return Subset(dataset, [i for i in range(len(dataset)) if i % every]), Subset(dataset, held)
