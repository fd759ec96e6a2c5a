"""What a frozen teacher makes of pictures that come again, its features too: kept, so that it is made once."""

import hashlib

import torch
from torch import Tensor, nn

from ganshrink.system.generator import Input, as_tuple, generate
from ganshrink.training import Taps

ROOM = 2**30  # bytes kept

Looked = tuple[Tensor, dict[str, Tensor]]


def look(network: nn.Module, input: Input, taps: Taps | None) -> Looked:
    """The images (B, C, H, W) that a network makes, and what its taps caught meanwhile, by path."""
    if taps is None:
        return generate(network, input), {}
    taps.clear()  # a cycle runs its generators again after this, and the taps see those passes too
    return generate(network, input), taps.take()


class TeacherCache:
    """A teacher's images and features by the bytes of its inputs: a pure function of both, computed for each image alone.

    On a CPU a large teacher's pass takes longer than its small student's whole step, and without crops the same few
    inputs come again in every epoch. Where a teacher changes, is in training mode or works on another device than the
    CPU, nothing is kept; nor where its features are not one for each image, in their first dimension.

    Args:
        room: bytes that may be kept; what comes after is computed anew each time.
    """

    def __init__(self, teacher: nn.Module, *, room: int = ROOM) -> None:
        self._teacher, self._room = teacher, room
        self._kept: dict[bytes, Looked] = {}
        self._made_by = self._state()

    def of(self, input: Input, taps: Taps | None = None) -> Looked:
        """The images (B, C, H, W) that the teacher makes of a batch's input, and what these taps on it catch, without a
        gradient."""
        inputs = as_tuple(input)
        with torch.no_grad():
            if self._teacher.training or any(tensor.device.type != "cpu" for tensor in inputs):
                return look(self._teacher, input, taps)
            if (state := self._state()) != self._made_by:
                self._kept, self._made_by = {}, state
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
        asked = [(tuple(t.shape), t.dtype) for t in inputs], None if taps is None else taps.paths
        hashed = hashlib.blake2b(str(asked).encode(), digest_size=20)
        for tensor in inputs:
            hashed.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
        key = hashed.digest()
        if key in self._kept:
            return self._kept[key]
        looked = look(self._teacher, inputs, taps)
        if _bytes(looked) <= self._room - sum(map(_bytes, self._kept.values())):
            self._kept[key] = looked
        return looked

    def _state(self) -> list[tuple[int, int]]:
        """What changes with the teacher's tensors: torch counts the changes in place of each."""
        tensors = [*self._teacher.parameters(), *self._teacher.buffers()]
        return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]


def _bytes(looked: Looked) -> int:
    image, features = looked
    return image.nbytes + sum(part.nbytes for part in features.values())
