"""What a layer should put out, of what it reads: least squares without holding the rows."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganshrink.pruning.linear_layers import by_group, inputs_at

APART = 5  # one row in so many tells whether the fit is of use


@dataclass(frozen=True)
class Seen:
    """One call of a layer of the uncut network.

    Attributes:
        read: the shape of its input but for the channels.
        size: the shape of its output.
        places: (rows,) numbers of places of the output, rising.
        target: (rows, outputs) what stands there, of the channels that stay.
    """

    read: tuple[int, ...]
    size: torch.Size
    places: Tensor
    target: Tensor


class Equations:
    """The normal equations of a layer, (groups, unknowns, ...) float64, and rows kept apart from them."""

    def __init__(self, weight: Tensor) -> None:
        self.gram = weight.new_zeros(len(weight), weight.shape[1], weight.shape[1])
        self.moment = torch.zeros_like(weight)
        self.apart: list[tuple[Tensor, Tensor]] = []
        self.rows = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add rows, (groups, rows, unknowns), and their targets."""
        self.gram.baddbmm_(x.transpose(1, 2), x)
        self.moment.baddbmm_(x.transpose(1, 2), y)

    def take(self, module: Any, x: Tensor, seen: Seen, *, apart: bool) -> None:
        """Add what a call of the student's layer reads at the places that were seen of the teacher's: the last of them,
        which are kept apart, or the others."""
        first = len(seen.places) - len(seen.places) // APART
        part = slice(first, None) if apart else slice(first)
        targets = by_group(module, seen.target[part].double())
        for some, rows in inputs_at(module, x, seen.size, seen.places[part]):
            if apart:
                self.apart.append((rows, targets[:, some]))
            else:
                self.add(rows, targets[:, some])
            self.rows += rows.shape[1]

    def join(self, other: "Equations") -> None:
        """Add another call's."""
        self.gram, self.moment = self.gram + other.gram, self.moment + other.moment
        self.apart, self.rows = self.apart + other.apart, self.rows + other.rows

    def error(self, weight: Tensor) -> float:
        """On the rows kept apart: the root mean square over that of the targets."""
        missed = sum(float((x @ weight - y).square().sum()) for x, y in self.apart)
        whole = sum(float(y.square().sum()) for _, y in self.apart)
        return math.sqrt(missed / whole) if whole else math.nan

    def solved(self, weight: Tensor, ridge: float, *, biased: bool) -> Tensor | None:
        """The best weights, drawn to those given, but for a bias, which is free; None where there are none."""
        squares = self.gram.diagonal(dim1=1, dim2=2)
        squares = squares[:, :-1] if biased else squares
        draw = (ridge * squares.mean(1, keepdim=True)).expand_as(squares).clone()
        draw[squares.sum(1) == 0] = 1  # inputs that are always zero: their weights stay
        if biased:
            draw = torch.cat([draw, draw.new_zeros(len(draw), 1)], 1)
        factor, failed = torch.linalg.cholesky_ex(self.gram + torch.diag_embed(draw))
        if bool(failed.any()):
            return None
        return weight + torch.cholesky_solve(self.moment - self.gram @ weight, factor)
