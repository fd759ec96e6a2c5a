"""Modules, weights and memory in several places at once."""

import torch
import torch.nn.functional as F
from topologies import conv, raw
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from wild import labels, plain, wild

# ---- one module, several calls

wild(
    "one convolution on two producers",
    lambda s, x: s.b(s.m(F.relu(s.a(x))) + s.m(F.relu(s.c(x)))),
    plain(c=lambda: conv(3, 8), m=lambda: conv(8, 6), b=lambda: conv(6, 3)),
    prunable=14,
)
wild(
    "one convolution for two consumers",
    lambda s, x: s.b(F.relu(s.m(s.a(x)))) + s.c(torch.tanh(s.m(s.a(x.flip(3))))),
    plain(c=lambda: conv(6, 3), m=lambda: conv(8, 6), b=lambda: conv(6, 3)),
    prunable=14,
)
wild(
    "one convolution on the same tensor twice",
    lambda s, x: s.b(s.m(h := s.a(x)) * torch.tanh(s.m(h))),
    plain(m=lambda: conv(8, 6), b=lambda: conv(6, 3)),
    prunable=14,
)
wild(
    "recurrent refinement",
    lambda s, x: s.b(s.m(s.m(s.m(s.a(x))))),
    plain(m=lambda: nn.Sequential(conv(8, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 8))),
    prunable=14,
)
wild(
    "recurrent residual refinement in a loop",
    lambda s, x: s.b(_times(3, lambda h: h + s.m(h), s.a(x))),
    plain(m=lambda: nn.Sequential(conv(8, 6), nn.ReLU(), conv(6, 8))),
    prunable=14,
)
wild(
    "one norm for two tensors",
    lambda s, x: s.b(s.n(s.a(x)) * torch.tanh(s.n(s.c(x)))),
    plain(c=lambda: conv(3, 8), n=lambda: nn.BatchNorm2d(8)),
    prunable=8,
)
wild(
    "one module under two names",
    lambda s, x: s.b(s.two(F.relu(s.one(s.a(x))))),
    lambda: {"a": conv(3, 8), "one": (m := conv(8, 8)), "two": m, "b": conv(8, 3)},
    prunable=8,
)
wild(
    "siamese encoder",
    lambda s, x, y: s.b(torch.cat([s.e(x), s.e(y)], 1)),
    lambda: {"e": nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 6)), "b": conv(12, 3)},
    prunable=14,
    shapes=((2, 3, 8, 12), (2, 3, 8, 12)),
    other=((1, 3, 12, 8), (1, 3, 12, 8)),
)
wild(
    "siamese encoder by the batch",
    lambda s, x: s.b(torch.cat(s.e(torch.cat([x, x.flip(3)], 0)).chunk(2, 0), 1)),
    lambda: {"e": nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 6)), "b": conv(12, 3)},
    prunable=14,
)


def _times(count, step, h):
    for _ in range(count):
        h = step(h)
    return h


# ---- one weight, several modules


def _tied_pair():
    parts = {"a": conv(3, 8), "b": conv(3, 8), "c": conv(8, 3)}
    parts["b"].weight, parts["b"].bias = parts["a"].weight, parts["a"].bias
    return parts


def _tied_linears():
    parts = {"e": nn.Linear(5, 8), "m": nn.Linear(8, 8), "d": nn.Linear(8, 5)}
    parts["d"].weight = nn.Parameter(parts["e"].weight.T.detach().clone())
    return parts


wild("two modules share weight and bias", lambda s, x: s.c(s.a(x) * s.b(x.flip(3))), _tied_pair, prunable=8)
wild(
    "tied transposed convolution",
    lambda s, x: F.conv_transpose2d(F.relu(s.m(F.relu(s.a(x)))), s.a.weight, padding=1),
    lambda: {"a": conv(3, 8), "m": conv(8, 8)},
    prunable=8,
)
wild(
    "tied transposed linear",
    lambda s, x: F.linear(F.relu(s.m(F.relu(s.e(x)))), s.e.weight.t(), s.o),
    lambda: {"e": nn.Linear(5, 8), "m": nn.Linear(8, 8), "o": raw(5)},
    shapes=((2, 5),),
    other=((1, 5),),
    prunable=8,
)
wild(
    "transposed linear by matmul",
    lambda s, x: F.relu(x @ s.w.T) @ s.w + F.relu(x @ s.v) @ s.u.mT,
    lambda: {"w": raw(8, 5), "v": raw(5, 6), "u": raw(5, 6)},
    shapes=((2, 5),),
    other=((1, 5),),
    prunable=14,
)
wild(
    "another module's weight used functionally",
    lambda s, x: s.b(F.relu(s.a(x)) + F.conv2d(x.flip(3), s.a.weight, None, padding=1, dilation=1)),
    plain(),
    prunable=8,
)
wild(
    "average of two weights",
    lambda s, x: s.b(F.relu(F.conv2d(x, (s.a.weight + s.c.weight) / 2, s.a.bias, padding=1))),
    plain(c=lambda: conv(3, 8)),
    prunable=8,
)
wild(
    "part of a weight",
    lambda s, x: F.conv2d(F.relu(s.a(x)), s.w[:, :8], padding=1),
    plain(w=lambda: raw(3, 10, 3, 3)),
    frozen={"a": "written out in slice"},
    prunable=2,  # columns that nothing reads
)
wild(
    "a weight put together from two",
    lambda s, x: F.conv2d(F.relu(F.conv2d(x, torch.cat([s.u, s.v]), padding=1)), s.w, padding=1),
    lambda: {"u": raw(4, 3, 3, 3), "v": raw(5, 3, 3, 3), "w": raw(3, 9, 3, 3)},
    prunable=9,
)
wild(
    "low-rank weight",
    lambda s, x: s.b(F.relu(F.linear(s.a(x).movedim(1, -1), s.u @ s.v).movedim(-1, 1))),
    plain(u=lambda: raw(6, 2), v=lambda: raw(2, 8), b=lambda: conv(6, 3)),
    prunable=16,
)
wild(
    "convolution and its adapter",
    lambda s, x: s.b(s.a(x) + s.up(s.down(x)) * 0.5),
    plain(down=lambda: conv(3, 2, 1, bias=False), up=lambda: conv(2, 8, 1, bias=False)),
    prunable=10,
)
wild(
    "tied embedding",
    lambda s, i: s.l(s.e(i)) @ s.e.weight.T,
    lambda: {"e": nn.Embedding(7, 6), "l": nn.Linear(6, 6)},
    shapes=(labels(7, 2, 4),),
    other=(labels(7, 1, 3),),
    prunable=6,
    frozen={"e'": "rows are picked by number"},
)

# ---- in place


def _accumulated(s, x):
    h = s.a(x)
    h += s.c(x)
    h.mul_(0.5).add_(s.d(x), alpha=2)
    return s.b(h.relu_())


def _sliced(s, x):
    h = s.a(x)
    h[:, :4] = torch.tanh(h[:, 4:])
    return s.b(h)


def _sliced_by_half(s, x):
    h = s.a(x)
    half = h.shape[1] // 2
    h[:, :half] = torch.tanh(h[:, half:])
    return s.b(h)


def _sliced_with_one(s, x):
    h = s.a(x)
    h[:, :, 2:4] = 1.0
    return s.b(h)


def _filled(s, x):
    h = s.a(x)
    out = h.new_zeros(h.shape)
    out[:, :, ::2] = h[:, :, ::2]
    return s.b(out)


def _collected(s, x):
    out = torch.zeros(x.shape[0], 8, *x.shape[2:])
    out[:, :5] = s.c(x)
    out[:, 5:] += s.d(x)
    return s.b(F.relu(out))


def _shifted(s, x):
    h = s.a(x)
    return s.b(h.add_(1))


def _masked(s, x):
    h = s.a(x)
    h[h < 0] = 0.5
    return s.b(h)


def _put(s, x):
    h = s.a(x)
    h.index_put_((torch.tensor([0]), torch.tensor([2])), torch.tensor(0.5))
    return s.b(h)


def _through_a_view(s, x):
    h = s.a(x)
    v = h.view(h.shape[0], h.shape[1], -1)
    v.sigmoid_()
    return s.b(h)


def _saved_before(s, x):
    h = s.a(x)
    kept = h.clone()
    h.sigmoid_()
    return s.b(kept) + s.c(h * kept)


wild(
    "sums and products in place", _accumulated, plain(c=lambda: conv(3, 8), d=lambda: conv(3, 8)), prunable=8
)
wild("slices assigned", _sliced, plain(), prunable=0, frozen={"a": "written out in slice"})
wild("slices assigned by half", _sliced_by_half, plain(), prunable=4)
wild("rows assigned a number", _sliced_with_one, plain(), prunable=0, frozen={"a": "not zero after"})
wild("a tensor of zeros filled", _filled, plain(), prunable=8)
wild(
    "a literal tensor filled in parts",
    _collected,
    plain(c=lambda: conv(3, 5), d=lambda: conv(3, 3)),
    prunable=0,
)
wild("add in place", _shifted, plain(), prunable=0, frozen={"a": "not zero after add_"})
wild("masked assignment", _masked, plain(), prunable=0, frozen={"a": "numbers of places in index_put_"})
wild("index_put", _put, plain(), prunable=0)
wild("sigmoid through a view", _through_a_view, plain(), prunable=0)
wild("a clone from before", _saved_before, plain(c=lambda: conv(8, 3)), prunable=8)

# ---- parametrizations


class Halved(nn.Module):
    def forward(self, w):
        return w * 0.5


class Gated(nn.Module):
    """Rows of one parametrization are not those of another: here the kernel is mixed over outputs."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mix = raw(size, size)

    def forward(self, w):
        return torch.einsum("ij,jckl->ickl", self.mix, w)


def _parametrized(module, parametrization, name="weight"):
    parametrize.register_parametrization(module, name, parametrization)
    return module


wild(
    "custom parametrizations, two deep",
    lambda s, x: s.b(F.relu(s.a(x))),
    plain(a=lambda: _parametrized(_parametrized(conv(3, 8), Halved()), Gated(8))),
    prunable=8,
)
wild(
    "a parametrized bias",
    lambda s, x: s.b(F.relu(s.a(x))),
    plain(a=lambda: _parametrized(conv(3, 8), Halved(), "bias")),
    prunable=8,
)
wild(
    "orthogonal linear",
    lambda s, x: s.o(F.relu(s.l(x))),
    lambda: {"l": parametrizations.orthogonal(nn.Linear(5, 8)), "o": nn.Linear(8, 5)},
    shapes=((2, 5),),
    other=((1, 5),),
    prunable=8,
)
wild(
    "spectral norm of a transposed convolution",
    lambda s, x: s.b(F.relu(s.a(x))),
    plain(a=lambda: parametrizations.spectral_norm(nn.ConvTranspose2d(3, 8, 3))),
    prunable=8,
)


def _one_parametrized_twice():
    shared = parametrizations.weight_norm(conv(8, 8))
    return {"a": conv(3, 8), "m": shared, "b": conv(8, 3)}


wild(
    "weight norm called twice",
    lambda s, x: s.b(s.m(F.relu(s.m(s.a(x))))),
    _one_parametrized_twice,
    prunable=8,
)
