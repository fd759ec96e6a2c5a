"""Small networks of every kind a user may bring, each with what tracing must say of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm


class Net(nn.Module):
    """A network from its parts and a forward function over them."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = ((1, 3, 12, 16),)
    free: tuple[str, ...] = ()  # groups that must be prunable
    frozen: Mapping[str, str] = field(default_factory=dict)  # groups that must not, and a part of the reason


def conv(inside: int, outside: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, kernel, padding=kernel // 2, **options)


def raw(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


CASES: dict[str, Case] = {}


def case(name: str, run: Callable[..., Any], parts: Callable[[], dict[str, Any]], **expected: Any) -> None:
    CASES[name] = Case(lambda: Net(run, **parts()), **expected)


# ---- sums, joins, splits

case(
    "residual",
    lambda s, x: s.c((h := F.relu(s.a(x))) + s.b(h)),
    lambda: {"a": conv(3, 8), "b": conv(8, 8), "c": conv(8, 3)},
    free=("a",),
)
case(
    "nested residual",
    lambda s, x: s.d((h := s.a(x)) + s.c((m := s.b(h)) + F.relu(s.e(m)))),
    lambda: {"a": conv(3, 8), "b": conv(8, 6), "c": conv(6, 8), "d": conv(8, 3), "e": conv(6, 6)},
    free=("a", "b"),
)
case(
    "dense concat",
    lambda s, x: s.c(torch.cat([x, h := F.relu(s.a(x)), s.b(torch.cat([x, h], 1))], 1)),
    lambda: {"a": conv(3, 6), "b": conv(9, 4), "c": conv(13, 3)},
    free=("a", "b"),
)
case(
    "concat with itself",
    lambda s, x: s.b(torch.cat([h := F.relu(s.a(x)), h], 1)),
    lambda: {"a": conv(3, 6), "b": conv(12, 3)},
    free=("a",),
)
case(
    "u-net",
    lambda s, x: s.d(
        torch.cat(
            [
                h := F.leaky_relu(s.a(x)),
                F.interpolate(F.relu(s.c(torch.relu(s.b(F.max_pool2d(h, 2))))), scale_factor=2),
            ],
            1,
        )
    ),
    lambda: {"a": conv(3, 6), "b": conv(6, 8), "c": conv(8, 6), "d": conv(12, 3)},
    free=("a", "b", "c"),
)
case(
    "glu by chunk",
    lambda s, x: s.b((p := s.a(x).chunk(2, 1))[0] * torch.sigmoid(p[1])),
    lambda: {"a": conv(3, 12), "b": conv(6, 3)},
    free=("a",),
)
case("glu", lambda s, x: s.b(F.glu(s.a(x), 1)), lambda: {"a": conv(3, 12), "b": conv(6, 3)}, free=("a",))
case(
    "split by half the size",
    lambda s, x: s.b((p := (h := s.a(x)).split(h.shape[1] // 2, 1))[0] * p[1]),
    lambda: {"a": conv(3, 12), "b": conv(6, 3)},
    free=("a",),
)
case(
    "split by a literal",
    lambda s, x: s.b((p := s.a(x).split(6, 1))[0] * p[1]),
    lambda: {"a": conv(3, 12), "b": conv(6, 3)},
    frozen={"a": "written out in split"},
)
case(
    "split into unequal parts",
    lambda s, x: s.b((p := s.a(x).split([4, 8], 1))[0]) + s.c(p[1]),
    lambda: {"a": conv(3, 12), "b": conv(4, 3), "c": conv(8, 3)},
    frozen={"a[0:4]": "split", "a[4:12]": "split"},
)
case(
    "slices by half the size",
    lambda s, x: s.b((h := s.a(x))[:, : h.shape[1] // 2] + h[:, h.shape[1] // 2 :]),
    lambda: {"a": conv(3, 12), "b": conv(6, 3)},
    free=("a",),
)
case(
    "slice by a literal",
    lambda s, x: s.b(F.relu(s.a(x))[:, :5]),
    lambda: {"a": conv(3, 12), "b": conv(5, 3)},
    frozen={"a[0:5]": "written out in slice"},
)
case(
    "slice from the end",
    lambda s, x: s.b(F.relu(s.a(x))[:, -5:]) + s.c(x),
    lambda: {"a": conv(3, 12), "b": conv(5, 3), "c": conv(3, 3)},
    frozen={"a[7:12]": "written out in slice"},
)
case(
    "one channel by its number",
    lambda s, x: (h := s.a(x))[:, 2:3] * s.b(h),
    lambda: {"a": conv(3, 6), "b": conv(6, 3)},
    frozen={"a[2:3]": "axis of fixed size", "a[0:6]": "written out in slice"},
)
case(
    "stack and sum",
    lambda s, x: s.c(torch.stack([s.a(x), s.b(x)], 0).sum(0)),
    lambda: {"a": conv(3, 6), "b": conv(3, 6), "c": conv(6, 3)},
    free=("a",),
)
case(
    "channels padded for a wider skip",
    lambda s, x: s.c(F.pad(h := s.a(x), (0, 0, 0, 0, 0, 4)) + s.b(h)),
    lambda: {"a": conv(3, 6), "b": conv(6, 10), "c": conv(10, 3)},
    free=("a",),
    frozen={"b[6:10]": "pads channels"},
)

# ---- convolutions

case(
    "depthwise",
    lambda s, x: s.c(F.relu(s.d(F.relu(s.a(x))))),
    lambda: {"a": conv(3, 8), "d": conv(8, 8, groups=8), "c": conv(8, 3)},
    free=("a",),
)
case(
    "depthwise with a multiplier",
    lambda s, x: s.c(s.d(s.a(x))),
    lambda: {"a": conv(3, 6), "d": conv(6, 18, groups=6), "c": conv(18, 3)},
    free=("a",),
)
case(
    "grouped",
    lambda s, x: s.c(s.g(s.a(x))),
    lambda: {"a": conv(3, 12), "g": conv(12, 8, groups=2), "c": conv(8, 3)},
    free=("a", "g"),
)
case(
    "grouped transposed",
    lambda s, x: s.c(s.g(s.a(x))),
    lambda: {
        "a": conv(3, 12),
        "g": nn.ConvTranspose2d(12, 8, 4, stride=2, padding=1, groups=2),
        "c": conv(8, 3),
    },
    free=("a", "g"),
)
case(
    "depthwise transposed",
    lambda s, x: s.c(s.g(s.a(x))),
    lambda: {"a": conv(3, 6), "g": nn.ConvTranspose2d(6, 12, 2, stride=2, groups=6), "c": conv(12, 3)},
    free=("a",),
)
case(
    "functional depthwise",
    lambda s, x: s.c(F.conv2d(h := s.a(x), s.w, padding=1, groups=h.shape[1])),
    lambda: {"a": conv(3, 6), "w": raw(6, 1, 3, 3), "c": conv(6, 3)},
    free=("a",),
)
case(
    "functional depthwise with a literal",
    lambda s, x: s.c(F.conv2d(s.a(x), s.w, padding=1, groups=6)),
    lambda: {"a": conv(3, 6), "w": raw(6, 1, 3, 3), "c": conv(6, 3)},
    frozen={"a": "written out in conv2d"},
)
case(
    "shared convolution called twice",
    lambda s, x: s.c(F.relu(s.b(F.relu(s.b(s.a(x)))))),
    lambda: {"a": conv(3, 8), "b": conv(8, 8), "c": conv(8, 3)},
    free=("a",),
)


def _tied() -> dict[str, Any]:
    parts = {"a": conv(3, 8), "b": conv(8, 8), "c": conv(8, 8), "d": conv(8, 3)}
    parts["c"].weight = parts["b"].weight
    return parts


case("tied weights", lambda s, x: s.d(s.c(F.relu(s.b(s.a(x))))), _tied, free=("a",))
case(
    "modules used functionally",
    lambda s, x: F.conv2d(F.relu(F.conv2d(x, s.a.weight, s.a.bias, padding=1)), s.b.weight, padding=1),
    lambda: {"a": conv(3, 8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "scaled weights",
    lambda s, x: F.conv2d(F.relu(F.conv2d(x, s.w * 0.1, padding=1)), s.v * 0.2, padding=1),
    lambda: {"w": raw(8, 3, 3, 3), "v": raw(3, 8, 3, 3)},
    free=("w",),
)
case(
    "one-dimensional",
    lambda s, x: s.b(F.relu(s.a(x))),
    lambda: {"a": nn.Conv1d(3, 8, 3), "b": nn.Conv1d(8, 2, 3)},
    shapes=((2, 3, 20),),
    free=("a",),
)
case(
    "three-dimensional",
    lambda s, x: s.b(F.avg_pool3d(F.relu(s.a(x)), 2)),
    lambda: {"a": nn.Conv3d(2, 6, 3), "b": nn.Conv3d(6, 2, 1)},
    shapes=((1, 2, 6, 8, 10),),
    free=("a",),
)
case(
    "circular padding",
    lambda s, x: s.b(F.relu(s.a(x))),
    lambda: {"a": conv(3, 8, padding_mode="circular"), "b": conv(8, 3, padding_mode="reflect")},
    free=("a",),
)

# ---- norms

case(
    "in-place relu after an affine instance norm",
    lambda s, x: s.b(s.r(s.n(s.a(x)))),
    lambda: {
        "a": conv(3, 8),
        "n": nn.InstanceNorm2d(8, affine=True),
        "r": nn.ReLU(inplace=True),
        "b": conv(8, 3),
    },
    free=("a",),
)
case(
    "instance norm with running statistics",
    lambda s, x: s.b(F.relu(s.n(s.a(x)))),
    lambda: {
        "a": conv(3, 8),
        "n": nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
        "b": conv(8, 3),
    },
    free=("a",),
)
case(
    "batch norm without a scale",
    lambda s, x: s.b(F.relu(s.n(s.a(x)))),
    lambda: {"a": conv(3, 8), "n": nn.BatchNorm2d(8, affine=False), "b": conv(8, 3)},
    free=("a",),
)
case(
    "functional norms",
    lambda s, x: s.b(F.relu(F.instance_norm(F.batch_norm(s.a(x), s.m, s.v, s.g)))),
    lambda: {"a": conv(3, 8), "m": torch.randn(8), "v": torch.rand(8) + 1, "g": raw(8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "group norm",
    lambda s, x: s.b(F.relu(s.n(s.a(x)))),
    lambda: {"a": conv(3, 12), "n": nn.GroupNorm(4, 12), "b": conv(12, 3)},
    free=("a",),
)
case(
    "group norm of one group",
    lambda s, x: s.b(F.relu(s.n(s.a(x)))),
    lambda: {"a": conv(3, 12), "n": nn.GroupNorm(1, 12), "b": conv(12, 3)},
    free=("a",),
)
case(
    "layer norm over channels",
    lambda s, x: s.b(s.n(F.relu(s.a(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
    lambda: {"a": conv(3, 8), "n": nn.LayerNorm(8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "layer norm over space",
    lambda s, x: s.b(s.n(s.a(x))),
    lambda: {"a": conv(3, 8), "n": nn.LayerNorm((12, 16), elementwise_affine=False), "b": conv(8, 3)},
    free=("a",),
)
case(
    "spectral norm",
    lambda s, x: s.b(F.relu(s.a(x))),
    lambda: {"a": spectral_norm(conv(3, 8)), "b": spectral_norm(conv(8, 3))},
    free=("a",),
)
case(
    "weight norm",
    lambda s, x: s.b(F.relu(s.a(x))),
    lambda: {"a": weight_norm(conv(3, 8)), "b": weight_norm(conv(8, 3))},
    free=("a",),
)
case(
    "old-style spectral norm",
    lambda s, x: s.b(F.relu(s.a(x))),
    lambda: {"a": nn.utils.spectral_norm(conv(3, 8)), "b": nn.utils.spectral_norm(conv(8, 3))},
    free=("a",),
)
case(
    "standardised by hand",
    lambda s, x: s.b(
        ((h := s.a(x)) - h.mean((2, 3), keepdim=True)) / (h.std((2, 3), keepdim=True) + 1e-5) * s.g
    ),
    lambda: {"a": conv(3, 8), "g": raw(1, 8, 1, 1), "b": conv(8, 3)},
    free=("a",),
)
case(
    "pixel norm",
    lambda s, x: s.b((h := s.a(x)) * torch.rsqrt(h.square().mean(1, keepdim=True) + 1e-8)),
    lambda: {"a": conv(3, 8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "unit vectors",
    lambda s, x: s.b(F.normalize(s.a(x), dim=1)),
    lambda: {"a": conv(3, 8), "b": conv(8, 3)},
    free=("a",),
)

# ---- modulation, gates, attention

case(
    "squeeze and excitation",
    lambda s, x: s.b((h := F.relu(s.a(x))) * torch.sigmoid(s.f(F.relu(s.e(F.adaptive_avg_pool2d(h, 1)))))),
    lambda: {"a": conv(3, 8), "e": conv(8, 4, 1), "f": conv(4, 8, 1), "b": conv(8, 3)},
    free=("a", "e"),
)
case(
    "squeeze and excitation with linears",
    lambda s, x: s.b(
        (h := F.relu(s.a(x))) * torch.sigmoid(s.f(F.relu(s.e(h.mean((2, 3))))))[:, :, None, None]
    ),
    lambda: {"a": conv(3, 8), "e": nn.Linear(8, 4), "f": nn.Linear(4, 8), "b": conv(8, 3)},
    free=("a", "e"),
)
case(
    "raw parameter",
    lambda s, x: s.b(F.relu(s.a(x) * s.g + s.h)),
    lambda: {"a": conv(3, 8), "g": raw(1, 8, 1, 1), "h": raw(8, 1, 1), "b": conv(8, 3)},
    free=("a",),
)
case(
    "learned constant",
    lambda s, x: s.b(F.relu(F.interpolate(s.k, size=x.shape[2:])) + s.a(x)),
    lambda: {"a": conv(3, 8), "k": raw(1, 8, 4, 4), "b": conv(8, 3)},
    free=("a",),
)
case(
    "prelu per channel",
    lambda s, x: s.b(s.p(s.a(x))),
    lambda: {"a": conv(3, 8), "p": nn.PReLU(8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "spade",
    lambda s, x, y: s.o(F.relu(s.n(h := s.a(x)) * (1 + s.g(m := F.relu(s.s(y)))) + s.b(m)) + h),
    lambda: {
        "a": conv(3, 8),
        "n": nn.InstanceNorm2d(8),
        "s": conv(5, 6),
        "g": conv(6, 8),
        "b": conv(6, 8),
        "o": conv(8, 3),
    },
    shapes=((1, 3, 12, 16), (1, 5, 12, 16)),
    free=("a", "s"),
)
case(
    "adain from a linear",
    lambda s, x, z: s.b(
        F.instance_norm(s.a(x)) * (1 + (p := s.l(z)[:, :, None, None].chunk(2, 1))[0]) + p[1]
    ),
    lambda: {"a": conv(3, 8), "l": nn.Linear(5, 16), "b": conv(8, 3)},
    shapes=((2, 3, 12, 16), (2, 5)),
    free=("a",),
)
case(
    "adain by a literal view",
    lambda s, x, z: s.b(F.instance_norm(s.a(x)) * (p := s.l(z).view(-1, 2, 8, 1, 1))[:, 0] + p[:, 1]),
    lambda: {"a": conv(3, 8), "l": nn.Linear(5, 16), "b": conv(8, 3)},
    shapes=((2, 3, 12, 16), (2, 5)),
    frozen={"a": "written out in view"},
)


def _self_attention(s: Any, x: Tensor) -> Tensor:
    h = s.a(x)
    b, c, rows, columns = h.shape
    q, k, v = (f(h).view(b, -1, rows * columns) for f in (s.q, s.k, s.v))
    weights = torch.softmax(torch.bmm(q.transpose(1, 2), k), -1)
    return s.o(torch.bmm(v, weights.transpose(1, 2)).view(b, c, rows, columns) * s.gamma + h)


case(
    "self-attention with sizes from x.shape",
    _self_attention,
    lambda: {
        "a": conv(3, 8),
        "q": conv(8, 4, 1),
        "k": conv(8, 4, 1),
        "v": conv(8, 8, 1),
        "gamma": raw(1),
        "o": conv(8, 3),
    },
    shapes=((1, 3, 6, 8),),
    free=("a", "q"),
)


def _heads(s: Any, x: Tensor) -> Tensor:
    h = s.a(x)
    b, c, rows, columns = h.shape
    q, k, v = (f(h).view(b, 2, -1, rows * columns).transpose(2, 3) for f in (s.q, s.k, s.v))
    out = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, -1, rows, columns)
    return s.o(out)


case(
    "multi-head attention",
    _heads,
    lambda: {"a": conv(3, 8), "q": conv(8, 8, 1), "k": conv(8, 8, 1), "v": conv(8, 12, 1), "o": conv(12, 3)},
    shapes=((1, 3, 6, 8),),
    free=("a", "v"),
    frozen={"q": "scale follows the width"},
)


def _scaled(s: Any, x: Tensor) -> Tensor:
    q, k = s.q(t := s.a(x)), s.k(t)
    return torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ s.v(t)


case(
    "attention scaled by hand",
    _scaled,
    lambda: {"a": nn.Linear(5, 8), "q": nn.Linear(8, 6), "k": nn.Linear(8, 6), "v": nn.Linear(8, 3)},
    shapes=((1, 7, 5),),
    free=("a",),
    frozen={"q": "outputs? differ|off by"},
)
case(
    "einsum",
    lambda s, x: torch.einsum("bchw,oc->bohw", F.relu(s.a(x)), s.w),
    lambda: {"a": conv(3, 8), "w": raw(3, 8)},
    free=("a",),
)
case(
    "softmax over channels",
    lambda s, x: s.b(torch.softmax(s.a(x), 1)),
    lambda: {"a": conv(3, 8), "b": conv(8, 3)},
    frozen={"a": "softmax runs over channels"},
)
case(
    "attention map of one channel",
    lambda s, x: s.b((h := s.a(x)) * torch.sigmoid(s.m(h))),
    lambda: {"a": conv(3, 8), "m": conv(8, 1), "b": conv(8, 3)},
    free=("a",),
    frozen={"m": "fixed size|single channel"},
)

# ---- shapes

case(
    "pixel shuffle in the middle",
    lambda s, x: s.b(F.relu(F.pixel_shuffle(s.a(x), 2))),
    lambda: {"a": conv(3, 24), "b": conv(6, 3)},
    free=("a",),
)
case(
    "pixel unshuffle in the middle",
    lambda s, x: s.b(F.pixel_unshuffle(F.relu(s.a(x)), 2)),
    lambda: {"a": conv(3, 6), "b": conv(24, 3)},
    free=("a",),
)


def _shuffle_by_hand(s: Any, x: Tensor) -> Tensor:
    h = s.a(x)
    b, c, rows, columns = h.shape
    h = h.view(b, c // 4, 2, 2, rows, columns).permute(0, 1, 4, 2, 5, 3)
    return s.b(h.reshape(b, c // 4, 2 * rows, 2 * columns))


case("pixel shuffle by hand", _shuffle_by_hand, lambda: {"a": conv(3, 24), "b": conv(6, 3)}, free=("a",))


def _channel_shuffle(s: Any, x: Tensor) -> Tensor:
    h = s.a(x)
    b, c, rows, columns = h.shape
    return s.b(h.view(b, 2, c // 2, rows, columns).transpose(1, 2).reshape(b, c, rows, columns))


case(
    "channel shuffle",
    _channel_shuffle,
    lambda: {"a": conv(3, 12), "b": conv(12, 6, groups=2)},
    free=("a",),
)
case(
    "flatten to a linear",
    lambda s, x: s.l(torch.flatten(F.relu(s.a(x)), 1)),
    lambda: {"a": conv(3, 8), "l": nn.Linear(8 * 12 * 16, 5)},
    free=("a",),
)
case(
    "view with -1",
    lambda s, x: s.l(F.relu(s.a(x)).view(x.shape[0], -1)),
    lambda: {"a": conv(3, 8), "l": nn.Linear(8 * 12 * 16, 5)},
    free=("a",),
)
case(
    "literal view",
    lambda s, x: s.b(F.relu(s.a(x)).view(-1, 8, 192).transpose(1, 2)),
    lambda: {"a": conv(3, 8), "b": nn.Linear(8, 3)},
    frozen={"a": "written out in view"},
)
case(
    "literal expand",
    lambda s, x, z: s.b(s.l(z)[:, :, None, None].expand(-1, 8, 12, 16) + s.a(x)),
    lambda: {"a": conv(3, 8), "l": nn.Linear(5, 8), "b": conv(8, 3)},
    shapes=((2, 3, 12, 16), (2, 5)),
    frozen={"l": "written out in expand"},
)
case(
    "linear bottleneck over a global pool",
    lambda s, x: s.o(F.relu(s.l(F.adaptive_avg_pool2d(F.relu(s.a(x)), 1).squeeze(-1).squeeze(-1)))),
    lambda: {"a": conv(3, 8), "l": nn.Linear(8, 6), "o": nn.Linear(6, 2)},
    free=("a", "l"),
)
case(
    "unfold",
    lambda s, x: s.b(F.unfold(F.relu(s.a(x)), 3, padding=1).transpose(1, 2)),
    lambda: {"a": conv(3, 6), "b": nn.Linear(54, 3)},
    free=("a",),
)
case(
    "channels last inside",
    lambda s, x: s.b(F.gelu(s.l(s.a(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)),
    lambda: {"a": conv(3, 8), "l": nn.Linear(8, 10), "b": conv(10, 3)},
    free=("a", "l"),
)
case(
    "paddings and resizing",
    lambda s, x: s.c(
        F.interpolate(
            F.pad(F.pad(F.pad(s.a(x), (1, 1, 1, 1), "reflect"), (1, 0, 1, 0), "replicate"), (0, 1, 0, 1)),
            scale_factor=2,
            mode="bilinear",
        )
    ),
    lambda: {"a": conv(3, 8), "c": conv(8, 3)},
    free=("a",),
)
case(
    "padding with a constant",
    lambda s, x: s.b(F.pad(s.a(x), (1, 1, 1, 1), value=0.5)),
    lambda: {"a": conv(3, 8), "b": conv(8, 3)},
    frozen={"a": "not zero after pad"},
)
case(
    "flip and where",
    lambda s, x: s.b(torch.where((h := s.a(x)) > 0.1, h.flip(3), -h).clamp(-1, 1).flip(1)),
    lambda: {"a": conv(3, 8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "dropout",
    lambda s, x: s.b(s.e(s.d(s.a(x)))),
    lambda: {"a": conv(3, 8), "d": nn.Dropout(0.5), "e": nn.Dropout2d(0.3), "b": conv(8, 3)},
    free=("a",),
)

# ---- dead channels that are not zero

for name, function in {
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "cos": torch.cos,
    "exp": torch.exp,
    "hardsigmoid": F.hardsigmoid,
    "add": lambda h: h + 1,
}.items():
    case(
        f"{name} before a convolution",
        lambda s, x, function=function: s.b(function(s.a(x))),
        lambda: {"a": conv(3, 8), "b": conv(8, 3)},
        frozen={"a": f"not zero after {name}"},
    )
case(
    "sigmoid before an affine norm",
    lambda s, x: s.b(s.n(torch.sigmoid(s.a(x)))),
    lambda: {"a": conv(3, 8), "n": nn.BatchNorm2d(8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "log",
    lambda s, x: s.b(torch.log(s.a(x).abs()) * s.c(x)),
    lambda: {"a": conv(3, 8), "c": conv(3, 8), "b": conv(8, 3)},
    frozen={"a": "not zero after log"},
)

# ---- several inputs and outputs

case(
    "two inputs and three outputs",
    lambda s, x, y: {"image": s.c(h := F.relu(s.a(x) + s.b(y))), "pair": (s.d(h), h.mean((1, 2, 3)))},
    lambda: {"a": conv(3, 8), "b": conv(2, 8), "c": conv(8, 3), "d": conv(8, 1)},
    shapes=((1, 3, 12, 16), (1, 2, 12, 16)),
    free=("a",),
)
case(
    "features are outputs",
    lambda s, x: (s.b(h := F.relu(s.a(x))), h),
    lambda: {"a": conv(3, 8), "b": conv(8, 3)},
    frozen={"a": "output of the model"},
)
case(
    "maximum of two",
    lambda s, x: s.b(torch.max(s.a(x), s.c(x))),
    lambda: {"a": conv(3, 8), "c": conv(3, 8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "activations in place",
    lambda s, x: s.b(F.hardtanh_(F.elu_(F.leaky_relu_(F.hardswish(s.a(x)), 0.2)))),
    lambda: {"a": conv(3, 8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "token mixing with a bias",
    lambda s, x: s.b(s.t(s.a(x).flatten(2)).transpose(1, 2)),
    lambda: {"a": conv(3, 8), "t": nn.Linear(192, 192), "b": nn.Linear(8, 3)},
    frozen={"a": "not zero after linear"},
)
case(
    "recurrent",
    lambda s, x: s.b(torch.tanh(s.r(torch.cat([x, torch.tanh(s.r(torch.cat([x, s.a(x)], 1)))], 1)))),
    lambda: {"a": conv(3, 8), "r": conv(11, 8), "b": conv(8, 3)},
    free=("a",),
)
case(
    "weights used both ways",
    lambda s, x: F.conv_transpose2d(F.relu(F.conv2d(x, s.w, padding=1)), s.w, padding=1),
    lambda: {"w": raw(8, 3, 3, 3)},
    free=("w",),
)
case(
    "squeeze without axes",
    lambda s, x: s.l(F.adaptive_avg_pool2d(s.a(x), 1).squeeze()),
    lambda: {"a": conv(3, 8), "l": nn.Linear(8, 3)},
    shapes=((2, 3, 12, 16),),
    frozen={"a": "written out in squeeze"},
)
case(
    "fixed noise and coordinates",
    lambda s, x: s.b(torch.cat([s.a(x) + s.n * s.z, s.z.expand(x.shape[0], 1, 12, 16)], 1)),
    lambda: {"a": conv(3, 8), "n": raw(1, 8, 1, 1), "z": torch.randn(1, 1, 12, 16), "b": conv(9, 3)},
    free=("a",),
)
