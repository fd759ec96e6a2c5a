"""Layer-wise reconstruction: the layers of a cut network refitted, one after the other, to what the uncut one computes.

Each layer gets, by ridge regression, the weights with which its own input, as it is after the layers before it were
refitted, comes closest to what the same layer put out before the cut, at the channels that stay. No gradient is taken. He,
Zhang and Sun 2017 ("Channel Pruning for Accelerating Very Deep Neural Networks") refit so what reads the cut channels.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils import _pytree as pytree

from ganshrink.pruning.channels import Channels
from ganshrink.pruning.check import evaluating
from ganshrink.pruning.cost import Mask
from ganshrink.pruning.equations import Equations, Seen
from ganshrink.pruning.extract import cuts_of
from ganshrink.pruning.linear_layers import (
    kept_outputs,
    matrix,
    outputs_at,
    outputs_of,
    places_of,
    put,
    shape_read,
    unfit,
    unknowns_of,
)
from ganshrink.pruning.plan import Plan
from ganshrink.pruning.untouched import attributes_kept, random_numbers_kept
from ganshrink.system.generator import Input, as_tuple

RIDGE = 1e-2
ROWS = 8192  # places of a layer's output that it is fitted to, at least, where there are so many
PER_UNKNOWN = 4  # and at least this times its unknowns
TARGETS = 2**27  # numbers of the uncut network's that are held at most
EXACT = 8  # times the machine's precision: nothing is lost that could be won back

Cuts = Mapping[str, Mapping[int, Mask]]


@dataclass(frozen=True)
class Layer:
    """What became of a layer. Errors are root mean squares over rows that the fit did not see, over the root mean square of
    what the uncut layer put out there.

    Attributes:
        left: why its weights are as they were; None: they were refitted.
        rows: places of its output that were compared.
        unknowns: numbers to be found for one channel of its output.
    """

    path: str
    left: str | None = None
    before: float | None = None
    after: float | None = None
    rows: int = 0
    unknowns: int = 0


@dataclass(frozen=True)
class Reconstruction:
    """What `reconstruct` did.

    Attributes:
        layers: in forward order; at last those that are not called.
        norms: paths of the norms whose running statistics moved.
        before, after: the root mean square of how far the outputs are from the teacher's, over that of the teacher's.
    """

    layers: tuple[Layer, ...]
    norms: tuple[str, ...]
    before: float
    after: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def reconstruct(
    student: nn.Module,
    teacher: nn.Module,
    images: Input,
    channels: Channels | None = None,
    plan: Plan | None = None,
    *,
    ridge: float = RIDGE,
    rows: int = ROWS,
    seed: int = 0,
) -> Reconstruction:
    """Refit a cut network's layers, in place, to what the uncut one computes on some images; nothing is trained.

    Every convolution, transposed convolution and linear layer, in the order in which they are called, gets the weights
    (and bias) that make, of the student's own input of that layer, the teacher's output of it at the channels that stay:
    least squares over sampled places of all images, with a ridge that draws to the weights that it has. Running
    statistics of norms move as far as the student's are from the teacher's on these images. A layer that comes no closer
    by it, on rows kept apart, stays exactly as it is. A module that is called several times is fitted to all of its
    calls, for which the network is gone through twice.

    All images go through the networks at once: so much memory is needed.

    Args:
        student: what `extract` made of the teacher.
        teacher: the network that was cut, trained.
        images: a batch of what the generator takes, (B, C, H, W), or a tuple of its inputs: training images.
        channels, plan: by which the teacher was cut; none: what `extract` remembers of this student.
        ridge: the share of the mean square of a layer's inputs that draws to the weights that it has.
        rows: places of a layer's output to fit it to; those with many unknowns get more.
        seed: of these places.

    Raises:
        ValueError: if it is not known how the student was cut from this teacher.
    """
    cuts = cuts_of(student) if channels is None or plan is None else channels.cuts(plan)
    if cuts is None:
        raise ValueError(
            "how this student was cut is not known: pass the channels and the plan that extract was given"
        )
    work = _Work(student, teacher, cuts, ridge)
    with ExitStack() as stack:
        for network in dict.fromkeys((student, teacher)):
            stack.enter_context(evaluating(network))
            stack.enter_context(attributes_kept(network))
        stack.enter_context(random_numbers_kept())
        try:
            return work.done(as_tuple(images), rows, seed)
        except BaseException:
            work.restore()
            raise


class _Work:
    """One reconstruction."""

    def __init__(self, student: nn.Module, teacher: nn.Module, cuts: Cuts, ridge: float) -> None:
        self.student, self.teacher, self.ridge = student, teacher, ridge
        self.whole: dict[str, Any] = dict(teacher.named_modules())
        self.layers: dict[str, Any] = {}  # those that can be refitted
        self.norms: dict[str, Any] = {}  # those with running statistics
        self.kept: dict[str, Tensor] = {}  # by path: the channels of the uncut one that stay
        self.found: dict[str, Layer] = {}
        self.moved: list[str] = []
        self.unfit: list[Layer] = []
        holders = Counter(id(p) for module in student.modules() for p in module._parameters.values())
        for path, module in student.named_modules():
            if isinstance(module, _NormBase) and module.running_mean is not None and path in self.whole:
                alive = cuts.get(f"{path}.running_mean", {}).get(0, np.ones(len(module.running_mean), bool))
                self.norms[path], self.kept[path] = module, torch.from_numpy(np.flatnonzero(alive))
            if all(p is None or p.ndim < 2 for p in module._parameters.values()):
                continue
            why = unfit(module)
            if why is None and any(holders[id(p)] > 1 for p in module.parameters(recurse=False)):
                why = "another module has the same weight"
            if why is not None:
                self.unfit.append(Layer(path, why))
                continue
            self.layers[path] = module
            self.kept[path] = self._kept(path, module, cuts)
        tensors = [t for module in self.layers.values() for t in module.parameters(recurse=False)]
        tensors += [t for norm in self.norms.values() for t in (norm.running_mean, norm.running_var)]
        self.given = [(tensor, tensor.clone()) for tensor in tensors]

    def _kept(self, path: str, module: Any, cuts: Cuts) -> Tensor:
        names = [n for n, p in self.student.named_parameters(remove_duplicate=False) if p is module.weight]
        of_weight = next((cuts[name] for name in names if name in cuts), {})
        try:
            kept = kept_outputs(self.whole[path], of_weight)
            fits = len(kept) == outputs_of(module)
        except (KeyError, AttributeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(
                f"{path} is not what this plan leaves of the teacher's: give the network that was cut"
            )
        return kept

    def restore(self) -> None:
        """Weights and statistics as they were given."""
        for tensor, before in self.given:
            tensor.copy_(before)

    def done(self, inputs: tuple[Tensor, ...], rows: int, seed: int) -> Reconstruction:
        """Through the teacher once, then through the student."""
        wanted = self._look(inputs, rows, seed)
        before = _distance(_outputs(self.student, inputs), wanted)
        later: dict[str, Equations] = {}
        for _ in range(1 + any(len(seen) > 1 for seen in self.seen.values())):
            self.restore()
            self.found, self.moved = {}, []
            made, later = self._refit(inputs, later)
        idle = [Layer(path, "it is not called") for path in self.layers if path not in self.found]
        layers = (*self.found.values(), *idle, *self.unfit)
        return Reconstruction(layers, tuple(self.moved), before, _distance(made, wanted))

    def _look(self, inputs: tuple[Tensor, ...], rows: int, seed: int) -> list[Tensor]:
        """Go through the teacher, see what its layers put out, and return what it puts out itself."""
        self.seen: dict[str, list[Seen]] = {path: [] for path in self.layers}
        self.read: dict[str, list[tuple[Tensor, Tensor]]] = {path: [] for path in self.norms}
        counts = {path: max(rows, PER_UNKNOWN * unknowns_of(m)) for path, m in self.layers.items()}
        held = sum(count * len(self.kept[path]) for path, count in counts.items())
        share, generator = min(1.0, TARGETS / max(held, 1)), torch.Generator().manual_seed(seed)

        def look(path: str, module: Any, args: Any, named: Any, output: Tensor) -> None:
            x = _first(args, named)
            places = _spread(places_of(module, output), max(1, int(share * counts[path])), generator)
            places = places.to(output.device)
            target = outputs_at(module, output, places)[:, self.kept[path].to(output.device)]
            self.seen[path].append(Seen(shape_read(module, x), output.shape, places, target))

        def look_in(path: str, module: Any, args: Any, named: Any) -> None:
            mean, var = _moments(module, _first(args, named))
            kept = self.kept[path].to(mean.device)
            self.read[path].append((mean[kept], var[kept]))

        with ExitStack() as stack:
            for path in self.layers:
                hook = self.whole[path].register_forward_hook(partial(look, path), with_kwargs=True)
                stack.callback(hook.remove)
            for path in self.norms:
                hook = self.whole[path].register_forward_pre_hook(partial(look_in, path), with_kwargs=True)
                stack.callback(hook.remove)
            return _outputs(self.teacher, inputs)

    def _refit(
        self, inputs: tuple[Tensor, ...], known: Mapping[str, Equations]
    ) -> tuple[list[Tensor], dict[str, Equations]]:
        """Go through the student, and refit each layer when it is first called.

        Args:
            known: equations of the later calls of modules that are called several times, from when this was done before.

        Returns:
            what the student puts out, and these equations as they are now.
        """
        later: dict[str, Equations] = {}
        number: Counter[str] = Counter()

        def refit(path: str, module: Any, args: Any, named: Any) -> None:
            x, call, number[path] = _first(args, named), number[path], number[path] + 1
            seen = self.seen[path]
            if call == 0:
                self.found[path] = self._fitted(path, module, x, known.get(path))
            elif call < len(seen) and seen[call].read == shape_read(module, x):
                equations = later.setdefault(path, Equations(matrix(module)))
                for apart in (True, False):
                    equations.take(module, x, seen[call], apart=apart)

        def move(path: str, norm: Any, args: Any, named: Any) -> None:
            number[path] += 1
            if number[path] == len(self.read[path]) == 1:
                self.moved += [path] * _moved(norm, _first(args, named), *self.read[path][0])

        with ExitStack() as stack:
            for hook, modules in ((refit, self.layers), (move, self.norms)):
                for path, module in modules.items():
                    handle = module.register_forward_pre_hook(partial(hook, path), with_kwargs=True)
                    stack.callback(handle.remove)
            return _outputs(self.student, inputs), later

    def _fitted(self, path: str, module: Any, x: Tensor, later: Equations | None) -> Layer:
        """Refit a layer that reads `x`, in place, if that brings it closer."""
        seen = next(iter(self.seen[path]), None)
        if seen is None or seen.read != shape_read(module, x):
            return Layer(path, "it reads another size than in the uncut network")
        weight, biased = matrix(module), module.bias is not None
        equations = Equations(weight)
        equations.take(module, x, seen, apart=True)
        if later is not None:
            equations.join(later)
        before = equations.error(weight)
        told = partial(Layer, path, unknowns=weight.shape[1])
        if not math.isfinite(before):
            return told("there is nothing to fit it to, or it is not finite", rows=equations.rows)
        if before <= EXACT * torch.finfo(module.weight.dtype).eps:
            return told("nothing is lost", before, before, rows=equations.rows)
        equations.take(module, x, seen, apart=False)
        first = equations.solved(weight, self.ridge, biased=biased)
        after = math.inf if first is None else equations.error(first)
        if first is None or not after < before:
            return told("no weights are closer", before, before, rows=equations.rows)
        for row, target in equations.apart:
            equations.add(row, target)
        best = equations.solved(weight, self.ridge, biased=biased)
        put(module, first if best is None else best)
        return told(None, before, after, rows=equations.rows)


def _first(args: Sequence[Any], named: Mapping[str, Any]) -> Tensor:
    """The input of a call."""
    return args[0] if args else named.get("input", next(iter(named.values())))


def _spread(total: int, count: int, generator: torch.Generator) -> Tensor:
    """So many numbers below the total, rising, each drawn from a share of its own; all where there are no more."""
    if count >= total:
        return torch.arange(total)
    drawn = torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)
    return (drawn * (total / count)).long().clamp_max(total - 1)


def _moments(norm: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the running statistics of a norm estimate: means and variances of channels, float64."""
    inner = list(range(2, x.ndim))
    over = inner if isinstance(norm, _InstanceNorm) else [0, *inner]
    var, mean = torch.var_mean(x.double(), over, correction=0)
    return (mean.mean(0), var.mean(0)) if mean.ndim > 1 else (mean, var)


def _moved(norm: Any, x: Tensor, mean: Tensor, var: Tensor) -> bool:
    """Move a norm's running statistics as far as those of what it reads are from the teacher's; whether they differ.

    So they stay what they were learned to be on many images where a student's layer computes what the teacher's does."""
    own_mean, own_var = _moments(norm, x)
    slack = torch.finfo(x.dtype).eps * 1e2
    same = (own_mean - mean).square() <= slack**2 * (var + mean.square())
    if bool((same & ((own_var - var).abs() <= slack * var)).all()):
        return False
    norm.running_mean.add_((own_mean - mean).to(norm.running_mean.dtype))
    norm.running_var.mul_(torch.where(var > 0, own_var / var, 1.0).to(norm.running_var.dtype))
    return True


def _outputs(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All numbers that a network puts out, drawing always the same ones where it draws some."""
    torch.manual_seed(0)
    leaves = pytree.tree_leaves(network(*inputs))
    return [t for t in leaves if isinstance(t, Tensor) and t.is_floating_point()]


def _distance(made: list[Tensor], wanted: list[Tensor]) -> float:
    pairs = [(a.double(), b.double()) for a, b in zip(made, wanted, strict=True)]
    size = sum(float(b.square().sum()) for _, b in pairs)
    return math.sqrt(sum(float((a - b).square().sum()) for a, b in pairs) / size) if size else math.nan
