"""What a frozen teacher makes of pictures that come again, its features too: kept, so that it is made once."""

import hashlib

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganshrink.system.generator import Input, as_tuple, generate
from ganshrink.training import Taps

ROOM = 2**30  # bytes kept

Looked = tuple[Tensor, dict[str, Tensor]]
State = list[tuple[Tensor, int]]


def look(network: nn.Module, input: Input, taps: Taps | None) -> Looked:
    """The images (B, C, H, W) that a network makes, and what its taps caught meanwhile, by path."""
    if taps is None:
        return generate(network, input), {}
    taps.clear()  # a cycle runs its generators again after this, and the taps see those passes too
    return generate(network, input), taps.take()


class TeacherCache:
    """A teacher's images and features by the bytes of its inputs: a pure function of both, computed for each image alone.

    On a CPU a large teacher's pass takes longer than its small student's whole step, and without crops the same few
    inputs come again in every epoch. Where a teacher changes, nothing of before is used. Where part of it is in training
    mode or takes the batch's statistics, or where it works on another device than the CPU, nothing is kept; nor where its
    features are not one for each image, in their first dimension.

    Args:
        room: bytes that may be kept; what comes after is computed anew each time.
    """

    def __init__(self, teacher: nn.Module, *, room: int = ROOM) -> None:
        self._teacher, self._room = teacher, room
        self._kept: dict[bytes, Looked] = {}
        self._bytes = 0
        self._made_by = self._state()

    def of(self, input: Input, taps: Taps | None = None) -> Looked:
        """The images (B, C, H, W) that the teacher makes of a batch's input, and what these taps on it catch, without a
        gradient."""
        inputs = as_tuple(input)
        with torch.no_grad():
            if any(map(_depends, self._teacher.modules())) or any(t.device.type != "cpu" for t in inputs):
                return look(self._teacher, input, taps)
            if not _same(state := self._state(), self._made_by):
                self._kept, self._bytes, self._made_by = {}, 0, state
            images, features = [], []
            for place in range(len(inputs[0])):
                image, caught = self._one(tuple(t[place : place + 1] for t in inputs), taps)
                if any(len(part) != 1 for part in caught.values()):
                    return look(self._teacher, input, taps)
                images.append(image)
                features.append(caught)
            paths = () if taps is None else taps.paths
            return torch.cat(images), {
                path: torch.cat([caught[path] for caught in features]) for path in paths
            }

    def _one(self, inputs: tuple[Tensor, ...], taps: Taps | None) -> Looked:
        computed_in = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        asked = [(tuple(t.shape), t.dtype) for t in inputs], computed_in, taps and taps.paths
        hashed = hashlib.blake2b(str(asked).encode(), digest_size=20)
        for tensor in inputs:
            hashed.update(tensor.flatten().contiguous().view(torch.uint8).numpy().tobytes())
        key = hashed.digest()
        if key in self._kept:
            return self._kept[key]
        looked = look(self._teacher, inputs, taps)
        if self._bytes + _bytes(looked) <= self._room:
            self._kept[key] = looked
            self._bytes += _bytes(looked)
        return looked

    def _state(self) -> State:
        """What changes with the teacher's tensors: torch counts the changes in place of each (but for those by `.data`)."""
        tensors = [*self._teacher.parameters(), *self._teacher.buffers()]
        return [(tensor, 0 if tensor.is_inference() else tensor._version) for tensor in tensors]


def _same(state: State, other: State) -> bool:
    return len(state) == len(other) and all(
        a is b and changes == before for (a, changes), (b, before) in zip(state, other, strict=True)
    )


def _depends(module: nn.Module) -> bool:
    """Whether what a layer makes of an image depends on its batch, or on chance."""
    return module.training or (isinstance(module, _BatchNorm) and module.running_mean is None)


def _bytes(looked: Looked) -> int:
    image, features = looked
    return image.nbytes + sum(part.nbytes for part in features.values())
