"""Costs in closed form: sums of products of kept widths, so that a search never builds a network.

`exact` counts the multiply-accumulates of convolutions and linear layers; `paper` counts transposed convolutions at
their output resolution, as the literature does. Both are per image.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ganshrink.pruning.atoms import Index

Convention = Literal["exact", "paper"]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cost:
    """What a network costs: multiply-accumulates per image, parameters, the bytes of parameters and buffers, and the most
    bytes of activations that are alive at once while one image is made."""

    macs: int
    params: int
    bytes: int
    memory: int


@dataclass(frozen=True)
class CostModel:
    """`sum(coefficient * product of axis sizes)`, where an axis's size is linear in the kept widths of the groups."""

    members: Index  # (axes, groups): how many positions of an axis one atom of a group takes
    always: Index  # (axes,): positions that are never cut
    exact: Index  # (calls,)
    paper: Index  # (calls,)
    call_axes: Index  # (calls, 4): indices into the axes; -1 stands for 1
    tensor_axes: Index  # (tensors, dims)
    tensor_fixed: Index  # (tensors,) the product of the sizes that never change
    tensor_bytes: Index  # (tensors,) per element
    is_parameter: Mask
    images: int

    def by_call(self, widths: Index, convention: Convention) -> Index:
        """(calls,) multiply-accumulates of each call for all images of the example."""
        coefficients = self.exact if convention == "exact" else self.paper
        return coefficients * self._sizes(widths)[self.call_axes].prod(axis=1)

    def counting(self, tensors: Mask) -> "CostModel":
        """The same model of some of the tensors."""
        return replace(
            self,
            tensor_axes=self.tensor_axes[tensors],
            tensor_fixed=self.tensor_fixed[tensors],
            tensor_bytes=self.tensor_bytes[tensors],
            is_parameter=self.is_parameter[tensors],
        )

    def _sizes(self, widths: Index) -> Index:
        axes, groups, counts = self._entries
        of_groups = np.bincount(axes, counts * widths[groups], len(self.always)).astype(np.int64)
        return np.append(of_groups + self.always, 1)

    @cached_property
    def _entries(self) -> tuple[Index, Index, Index]:
        """The members that are not zero: an axis has few groups, a large network many of both."""
        axes, groups = np.nonzero(self.members)
        return axes, groups, self.members[axes, groups]

    def evaluate(
        self,
        widths: Index,
        convention: Convention,
        memory: int,
        gone_calls: Mask | None = None,
        gone_tensors: Mask | None = None,
    ) -> Cost:
        """The cost at `widths` kept atoms per group, without the calls and tensors of removed modules."""
        sizes = self._sizes(widths)
        calls = self.by_call(widths, convention)
        tensors = self.tensor_fixed * sizes[self.tensor_axes].prod(axis=1)
        if gone_calls is not None:
            calls = calls[~gone_calls]
        stored = self.tensor_bytes
        is_parameter = self.is_parameter
        if gone_tensors is not None:
            tensors, stored, is_parameter = (
                tensors[~gone_tensors],
                stored[~gone_tensors],
                is_parameter[~gone_tensors],
            )
        return Cost(
            macs=int(calls.sum()) // self.images,
            params=int(tensors[is_parameter].sum()),
            bytes=int((tensors * stored).sum()),
            memory=memory,
        )
