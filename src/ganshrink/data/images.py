"""What every data set offers, and whether a given one keeps to it, so that a run does not fail at image 4711."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from ganshrink.system.generator import as_tuple, image_like


@runtime_checkable
class Images(Protocol):
    """What every data set offers; a user's own class with these members works everywhere.

    `sample(index, rng)` gives "input": float32 (in_channels, *size) in [-1, 1] or one-hot 0/1, "target":
    float32 (out_channels, *size) in [-1, 1], "name": str, and for labelled sets "labels": int64 (H, W). All
    randomness comes from `rng`; None means evaluation, without augmentation. Sets of inputs alone have no
    "target".

    Four members are optional, read by functions of these names: `paired = False` says that a sample's input and target
    do not belong together (`is_paired`), `num_inputs` that in evaluation only the first so many samples hold an "input",
    `target_size` that targets have another size than inputs, `files()` which files a sample is of (`files_of`), so that
    what is scored can be told from what was trained on.

    For a generator of several inputs "input" is a tuple of tensors in the order of its arguments: images as above, and
    float32 or int64 of any other shape. `in_channels` are then the channels of all images of `size` among them
    together (0 where there is none), and `preview` is given the first of these.
    """

    in_channels: int
    out_channels: int
    size: tuple[int, int]

    def __len__(self) -> int: ...

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]: ...

    def fingerprint(self) -> str: ...

    def preview(self, input: torch.Tensor) -> np.ndarray: ...


def is_paired(images: Images) -> bool:
    """Whether the input and target of a sample belong together; so it is unless the set says otherwise."""
    return getattr(images, "paired", True)


def offered_by(images: Images) -> set[str]:
    """What a data set offers of what metrics and tasks need. A label map as input, one-hot or of class ids, is no picture; a
    vector is a latent one."""
    sample = images.sample(0, None)
    offered = {"target", "labels"} & sample.keys()
    given = sample.get("input")
    if (
        isinstance(given, torch.Tensor)
        and given.is_floating_point()
        and not ((given == 0) | (given == 1)).all()
    ):
        offered |= {"latents" if given.ndim == 1 else "pictures"}
    return offered | ({"pairs"} if "target" in offered and is_paired(images) else set())


def num_inputs(images: Images) -> int:
    """How many samples hold an "input" in evaluation, the first ones; all unless the set says otherwise."""
    return getattr(images, "num_inputs", len(images))


def target_size(images: Images) -> tuple[int, int]:
    """(H, W) of the targets; that of the inputs unless the set says otherwise."""
    return getattr(images, "target_size", images.size)


def files_of(images: Images) -> list[tuple[Path, ...]] | None:
    """The files of each sample as it is in evaluation; None where a set does not say them."""
    return images.files() if hasattr(images, "files") else None


def stored_target(images: Images, index: int) -> torch.Tensor | None:
    """The target (C, H, W) in [-1, 1] of a sample as its file holds it, not resized; None where the sample has none.

    Raises:
        ValueError: if the set does not read its targets from files.
    """
    if not hasattr(images, "stored_target"):
        raise ValueError(
            "these data have no targets in files of their own size: leave -stored out of metrics.reals"
        )
    return images.stored_target(index)  # type: ignore[no-any-return]


def whole_of(images: Images) -> Images:
    """The data set that a part of one, or its inputs alone, is taken from."""
    while hasattr(images, "whole"):
        images = images.whole
    return images


def check(dataset: Images) -> list[str]:
    """Everything that would break a run on this data set, one line each; empty when it is sound.

    Folders: every image's header and size are read, and up to 3000 pairs every image is decoded whole and its
    class ids looked at; of more, 3000 that are spread over them. Any data set: the first sample's shapes, types and range.
    """
    problems = list(dataset.problems()) if hasattr(dataset, "problems") else []
    if not problems and len(dataset) == 0:
        problems.append("the data set has no samples")
    return problems or _check_sample(dataset)


def _check_sample(dataset: Images) -> list[str]:
    sample = dataset.sample(0, None)
    given = sample.get("input")
    if isinstance(given, tuple) or not dataset.in_channels:
        problems = _check_inputs(dataset, as_tuple(given) if given is not None else ())
    else:
        problems = _check_image("input", given, (dataset.in_channels, *dataset.size))
    if "target" in sample:
        problems += _check_image("target", sample["target"], (dataset.out_channels, *target_size(dataset)))
    if not isinstance(sample.get("name"), str):
        problems.append('sample 0: "name" must be a string')
    return problems


def _check_image(key: str, tensor: Any, shape: tuple[int, ...]) -> list[str]:
    if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float32:
        kind = f", not {tensor.dtype}" if isinstance(tensor, torch.Tensor) else ""
        return [f"sample 0: {key!r} must be a float32 tensor{kind}"]
    if tuple(tensor.shape) != shape:
        says = "in_channels and size" if key == "input" else "out_channels and size (or target_size)"
        return [f"sample 0: {key!r} is {tuple(tensor.shape)}, {says} say {shape}"]
    if not bool((tensor.abs() <= 1.001).all()):
        return [f"sample 0: {key!r} reaches {float(tensor.abs().max()):.4g}: scale it to [-1, 1]"]
    return []


def _check_inputs(dataset: Images, inputs: tuple[torch.Tensor, ...]) -> list[str]:
    """As `_check_image`, for several inputs or one that is no image: only what is an image has a range."""
    problems = []
    if not inputs:
        problems.append("sample 0: 'input' must be a tensor, or a tuple of tensors")
    for place, tensor in enumerate(inputs):
        name = f"sample 0: input {place}"
        if tensor.dtype not in (torch.float32, torch.int64):
            problems.append(f"{name} is {tensor.dtype}: it must be float32, or int64 for class ids")
        elif image_like([tensor[None]], dataset.size) and not bool((tensor.abs() <= 1.001).all()):
            problems.append(f"{name} reaches {float(tensor.abs().max()):.4g}: scale it to [-1, 1]")
        elif not bool(tensor.isfinite().all()):
            problems.append(f"{name} holds NaN or infinite values")
    channels = sum(image.shape[1] for image in image_like([t[None] for t in inputs], dataset.size))
    if inputs and channels != dataset.in_channels:
        problems.append(
            f"sample 0: inputs of {dataset.size} have {channels} channels, in_channels says {dataset.in_channels}"
        )
    return problems
