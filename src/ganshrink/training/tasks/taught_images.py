"""What a frozen teacher makes of pictures that come again: kept, so that it is made once."""

import hashlib

import torch
from torch import Tensor, nn

from ganshrink.system.generator import Input, as_tuple, generate

ROOM = 2**30  # bytes of images kept


class TaughtImages:
    """A teacher's images by the bytes of its inputs: a pure function of both, computed for each image alone.

    On a CPU a large teacher's pass takes longer than its small student's whole step, and without crops the same few
    inputs come again in every epoch. Where a teacher changes, is in training mode or works on another device than the
    CPU, nothing is kept.

    Args:
        room: bytes that may be kept; what comes after is computed anew each time.
    """

    def __init__(self, teacher: nn.Module, *, room: int = ROOM) -> None:
        self._teacher, self._room = teacher, room
        self._kept: dict[bytes, Tensor] = {}
        self._made_by = self._state()

    def of(self, input: Input) -> Tensor:
        """The images (B, C, H, W) that the teacher makes of a batch's input, without a gradient."""
        inputs = as_tuple(input)
        with torch.no_grad():
            if self._teacher.training or any(tensor.device.type != "cpu" for tensor in inputs):
                return generate(self._teacher, input)
            if (state := self._state()) != self._made_by:
                self._kept, self._made_by = {}, state
            return torch.cat([self._one(tuple(t[i : i + 1] for t in inputs)) for i in range(len(inputs[0]))])

    def _one(self, inputs: tuple[Tensor, ...]) -> Tensor:
        hashed = hashlib.blake2b(str([(tuple(t.shape), t.dtype) for t in inputs]).encode(), digest_size=20)
        for tensor in inputs:
            hashed.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
        key = hashed.digest()
        if key in self._kept:
            return self._kept[key]
        image = generate(self._teacher, inputs)
        if image.nbytes <= self._room - sum(kept.nbytes for kept in self._kept.values()):
            self._kept[key] = image
        return image

    def _state(self) -> list[tuple[int, int]]:
        """What changes with the teacher's tensors: torch counts the changes in place of each."""
        tensors = [*self._teacher.parameters(), *self._teacher.buffers()]
        return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
