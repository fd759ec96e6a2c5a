"""Regrouped, resampled and constant tensors, and modules as users wrap them."""

import warnings

import torch
import torch.nn.functional as F
from topologies import conv, raw
from torch import nn
from wild import WILD, Wild, plain, wild

# ---- blocks of channels


def _shuffle_block(s, x):
    h = s.a(x)
    left, right = h.chunk(2, 1)
    out = torch.cat([left, s.p(F.relu(s.d(F.relu(s.q(right)))))], 1)
    b, c, rows, columns = out.shape
    return s.b(out.view(b, 2, c // 2, rows, columns).transpose(1, 2).contiguous().view(b, -1, rows, columns))


def _ghost(s, x):
    first = s.a(x)
    return s.b(torch.cat([first, F.relu(s.cheap(first))], 1))


def _literal_ghost(s, x):
    first = s.a(x)
    return s.b(torch.cat([first, F.relu(s.cheap(first))], 1)[:, :14])


def _rearranged(s, x):
    """b (g c) h w -> b (c g) h w, as einops does it."""
    h = s.a(x)
    return s.b(h.reshape(h.shape[0], 2, -1, *h.shape[2:]).permute(0, 2, 1, 3, 4).reshape(h.shape))


def _windows(s, x):
    h = s.a(x)
    b, c, rows, columns = h.shape
    t = h.view(b, c, rows // 4, 4, columns // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    t = s.l(t).view(b, rows // 4, columns // 4, 4, 4, -1).permute(0, 5, 1, 3, 2, 4)
    return s.b(t.reshape(b, -1, rows, columns))


def _space_to_depth(s, x):
    h = s.a(x)
    b, c, rows, columns = h.shape
    t = h.view(b, c, rows // 2, 2, columns // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return s.b(t.reshape(b, c * 4, rows // 2, columns // 2))


def _focus(s, x):
    h = s.a(x)
    return s.b(torch.cat([h[..., ::2, ::2], h[..., 1::2, ::2], h[..., ::2, 1::2], h[..., 1::2, 1::2]], 1))


def _octave(s, x):
    high, low = s.a(x), s.l(F.avg_pool2d(x, 2))
    return s.b(high + F.interpolate(s.c(low), scale_factor=2)) + F.interpolate(
        s.d(low + F.avg_pool2d(s.e(high), 2)), scale_factor=2
    )


def _folded(s, x):
    h = s.a(x)
    columns = F.unfold(h, 3, padding=1)
    return s.b(F.fold(columns * columns.sigmoid(), h.shape[2:], 3, padding=1))


def _involution(s, x):
    h = s.a(x)
    b, c, rows, columns = h.shape
    kernel = s.k(h).view(b, 1, 9, rows, columns)
    return s.b((F.unfold(h, 3, padding=1).view(b, c, 9, rows, columns) * kernel).sum(2))


def _upsampled_flow(s, x):
    mask = torch.softmax(s.m(x).view(x.shape[0], 1, 9, *x.shape[2:]), 2)
    h = F.unfold(s.a(x), 3, padding=1).view(x.shape[0], -1, 9, *x.shape[2:])
    return s.b((mask * h).sum(2))


def _by_number(h):
    for number in range(h.shape[1]):
        yield h[:, number] * number


def _warped(s, x):
    b, _, rows, columns = x.shape
    grid = F.affine_grid(torch.eye(2, 3).expand(b, 2, 3), [b, 1, rows, columns], align_corners=False)
    return s.b(F.grid_sample(F.relu(s.a(x)), grid + s.f(x).permute(0, 2, 3, 1), align_corners=False))


wild(
    "shufflenet block",
    _shuffle_block,
    plain(q=lambda: conv(4, 6, 1), d=lambda: conv(6, 6, groups=6), p=lambda: conv(6, 4, 1)),
    prunable=10,
)
wild("ghost module", _ghost, plain(cheap=lambda: conv(8, 8, groups=8), b=lambda: conv(16, 3)), prunable=8)
wild(
    "ghost module cut short",
    _literal_ghost,
    plain(cheap=lambda: conv(8, 8, groups=8), b=lambda: conv(14, 3)),
    prunable=0,
)
wild("nn.ChannelShuffle", lambda s, x: s.b(s.s(s.a(x))), plain(s=lambda: nn.ChannelShuffle(2)), prunable=4)
wild("einops rearrange", _rearranged, plain(), prunable=4)
wild("windows of tokens", _windows, plain(l=lambda: nn.Linear(8, 6), b=lambda: conv(6, 3)), prunable=14)
wild("space to depth by hand", _space_to_depth, plain(b=lambda: conv(32, 3)), prunable=8)
wild("focus", _focus, plain(b=lambda: conv(32, 3)), prunable=8)
wild(
    "octave convolution",
    _octave,
    plain(l=lambda: conv(3, 6), c=lambda: conv(6, 8), d=lambda: conv(6, 3), e=lambda: conv(8, 6)),
    prunable=14,
)
wild("fold and unfold", _folded, plain(), prunable=8)
wild("involution of one group", _involution, plain(k=lambda: conv(8, 9)), prunable=8)
wild("convex upsampling", _upsampled_flow, plain(m=lambda: conv(3, 9)), prunable=8)
wild("warp by a predicted flow", _warped, plain(f=lambda: conv(3, 2)), prunable=8)
wild(
    "dilated pyramid",
    lambda s, x: s.b(
        torch.cat([s.a(x), s.c(x), s.p(F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, *x.shape[2:])], 1)
    ),
    plain(
        c=lambda: nn.Conv2d(3, 6, 3, padding=2, dilation=2), p=lambda: conv(3, 4, 1), b=lambda: conv(18, 3)
    ),
    prunable=18,
)
wild(
    "separable, grouped, transposed, dilated",
    lambda s, x: s.b(s.t(F.relu(s.g(s.p(s.d(s.a(x))))))),
    plain(
        d=lambda: conv(8, 8, groups=8, dilation=2),
        p=lambda: conv(8, 12, 1),
        g=lambda: conv(12, 8, groups=4),
        t=lambda: nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=2),
    ),
    prunable=8 + 3 + 2 + 4,
)
wild(
    "groups within groups",
    lambda s, x: s.b(s.h(F.relu(s.g(s.a(x))))),
    plain(
        a=lambda: conv(3, 12),
        g=lambda: conv(12, 12, groups=2),
        h=lambda: conv(12, 12, groups=3),
        b=lambda: conv(12, 3),
    ),
    prunable=12,
)
wild(
    "grouped after concat",
    lambda s, x: s.b(s.g(torch.cat([s.a(x), s.c(x)], 1))),
    plain(c=lambda: conv(3, 8), g=lambda: conv(16, 8, groups=2)),
    prunable=8 + 4,
)
wild(
    "grouped across a concat",
    lambda s, x: s.b(s.g(torch.cat([s.a(x), s.c(x)], 1))),
    plain(c=lambda: conv(3, 4), g=lambda: conv(12, 8, groups=2)),
    prunable=10,
)
wild(
    "flat channels into linears",
    lambda s, x: s.o(F.relu(s.l(F.adaptive_max_pool2d(s.a(x), (2, 3)).flatten(1)))),
    plain(l=lambda: nn.Linear(48, 7), o=lambda: nn.Linear(7, 2)),
    prunable=15,
)
wild(
    "linear to a map",
    lambda s, x: s.b(F.relu(s.t(F.relu(s.l(x)).view(-1, 8, 2, 3)))),
    plain(l=lambda: nn.Linear(5, 48), t=lambda: nn.ConvTranspose2d(8, 6, 4, 2, 1), b=lambda: conv(6, 3)),
    shapes=((2, 5),),
    other=((1, 5),),
    prunable=6,
)
wild(
    "linear to a map of open width",
    lambda s, x: s.b(F.relu(s.l(x)).view(x.shape[0], -1, 2, 3)),
    plain(l=lambda: nn.Linear(5, 48)),
    shapes=((2, 5),),
    other=((1, 5),),
    prunable=8,
)
wild(
    "linear to a map by unflatten",
    lambda s, x: s.b(s.u(F.relu(s.l(x)))),
    plain(l=lambda: nn.Linear(5, 48), u=lambda: nn.Unflatten(1, (8, 2, 3))),
    shapes=((2, 5),),
    other=((1, 5),),
    prunable=0,
)
wild(
    "resampling",
    lambda s, x: (
        s.b(
            F.interpolate(
                F.avg_pool2d(F.interpolate(s.a(x), size=(10, 14), mode="bicubic"), 2),
                x.shape[2:],
                mode="bilinear",
                align_corners=True,
            )
        )
        + F.interpolate(F.adaptive_avg_pool2d(s.b(s.a(x)), (2, 3)), x.shape[2:])
    ),
    plain(),
    prunable=8,
)
wild(
    "max unpool",
    lambda s, x: s.b(F.max_unpool2d(*F.max_pool2d(F.relu(s.a(x)), 2, return_indices=True), 2)),
    plain(),
    prunable=0,
)
wild(
    "two kinds of tokens",
    lambda s, x: s.o(torch.cat([s.k.expand(x.shape[0], -1, -1), s.a(x).flatten(2).mT + s.e], 1)),
    plain(k=lambda: raw(1, 1, 8), e=lambda: raw(1, 1, 8), o=lambda: nn.Linear(8, 3)),
    prunable=8,
)
wild(
    "positional embedding of one size",
    lambda s, x: s.b(F.relu(s.a(x) + s.e)),
    plain(e=lambda: raw(1, 8, 8, 12)),
    other=None,
    prunable=8,
)
wild(
    "meshgrid coordinates",
    lambda s, x: s.b(
        torch.cat(
            [
                s.a(x),
                torch.stack(
                    torch.meshgrid(
                        torch.linspace(-1, 1, x.shape[2]), torch.linspace(-1, 1, x.shape[3]), indexing="ij"
                    )
                ).expand(x.shape[0], -1, -1, -1),
            ],
            1,
        )
    ),
    plain(b=lambda: conv(10, 3)),
    prunable=8,
)
wild(
    "channel-wise where, lerp and addcmul",
    lambda s, x: s.b(torch.addcmul(torch.lerp(s.a(x), s.c(x), 0.3), s.a(x), s.c(x), value=0.5)),
    plain(c=lambda: conv(3, 8)),
    prunable=8,
)
wild("roll and shift of pixels", lambda s, x: s.b(torch.roll(s.a(x), (1, 2), (2, 3))), plain(), prunable=8)
wild(
    "rows one by one",
    lambda s, x: s.b(torch.stack([r * (i + 1) for i, r in enumerate(s.a(x).unbind(2))], 2)),
    plain(),
    prunable=8,
)
wild(
    "channels one by one",
    lambda s, x: s.b(torch.cat([s.a(x)[:, i : i + 1] * (i + 1) for i in range(8)], 1)),
    plain(),
    prunable=0,
)
wild("a loop over h.shape", lambda s, x: s.b(torch.stack(list(_by_number(s.a(x))), 1)), plain(), prunable=0)
wild(
    "frequencies",
    lambda s, x: s.b(torch.fft.irfft2(torch.fft.rfft2(s.a(x)), s=x.shape[2:])),
    plain(),
    prunable=8,
)
wild(
    "complex numbers",
    lambda s, x: s.b(torch.view_as_real(torch.complex(s.a(x), s.a(x)))[..., 0]),
    plain(),
    prunable=8,
)
wild("pairwise distances", lambda s, x: s.b((h := s.a(x)) * torch.cdist(h, h).mean()), plain(), prunable=0)
wild(
    "outer sums",
    lambda s, x: s.b(s.a(x) + s.c(x).mean((2, 3))[:, :, None, None]),
    plain(c=lambda: conv(3, 8)),
    prunable=8,
)
wild(
    "batch statistics",
    lambda s, x: s.b((h := s.a(x)) / (1 + h.square().sum((0, 2, 3), keepdim=True))),
    plain(),
    prunable=8,
)

# ---- constants


def _blurred(s, x):
    h = s.a(x)
    return s.b(
        F.conv2d(
            F.pad(h, (1, 1, 1, 1), "reflect"), s.k.expand(h.shape[1], -1, -1, -1), groups=h.shape[1], stride=2
        )
    )


def _literal_blur(s, x):
    return s.b(F.conv2d(s.a(x), s.k, groups=8, padding=1))


def _kernel():
    return torch.tensor([1.0, 2, 1]).outer(torch.tensor([1.0, 2, 1]))[None, None] / 16


wild("blur-pool with an expanded kernel", _blurred, plain(k=_kernel), prunable=8)
wild(
    "blur-pool with a literal kernel",
    _literal_blur,
    plain(k=lambda: _kernel().repeat(8, 1, 1, 1)),
    prunable=0,
)
wild(
    "blur by repeat",
    lambda s, x: s.b(F.conv2d(h := s.a(x), s.k.repeat(h.shape[1], 1, 1, 1), groups=h.shape[1], padding=1)),
    plain(k=_kernel),
    prunable=8,
)
wild(
    "noise from the shape",
    lambda s, x: s.b((h := s.a(x)) + torch.zeros(h.shape[0], 1, *h.shape[2:]) * s.n),
    plain(n=lambda: raw(1, 8, 1, 1)),
    prunable=8,
)
wild("ones from the shape", lambda s, x: s.b((h := s.a(x)) * torch.ones(h.shape)), plain(), prunable=8)
wild("ones like", lambda s, x: s.b((h := s.a(x)) * torch.ones_like(h) * 2), plain(), prunable=8)
wild("literal constants", lambda s, x: s.b(s.a(x) * torch.arange(8.0)[:, None, None]), plain(), prunable=0)
wild(
    "a mean image",
    lambda s, x: s.b(s.a((x - s.m[:, None, None]) / s.d[:, None, None])),
    plain(m=lambda: torch.rand(3), d=lambda: torch.rand(3) + 1),
    prunable=8,
)
wild("a buffer of ones", lambda s, x: s.b(s.a(x) * s.m), plain(m=lambda: torch.ones(1, 8, 1, 1)), prunable=8)
wild(
    "fixed channels joined",
    lambda s, x: s.b(torch.cat([s.a(x), s.k.expand(x.shape[0], -1, *x.shape[2:]), x], 1)),
    plain(k=lambda: torch.randn(1, 4, 1, 1), b=lambda: conv(15, 3)),
    prunable=12,
)
wild(
    "wavelets",
    lambda s, x: s.b(
        F.conv2d(s.a(x).flatten(0, 1)[:, None], s.k, stride=2).unflatten(0, (x.shape[0], -1)).flatten(1, 2)
    ),
    plain(k=lambda: torch.randn(4, 1, 2, 2), b=lambda: conv(32, 3)),
    prunable=0,
)

# ---- forms of input, output and control flow


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.m, self.b = conv(3, 8), conv(1, 8), conv(8, 3)

    def forward(self, x, mask=None, *, scale=1.0, flag=False):
        h = self.a(x)
        if mask is not None:
            h = h + self.m(mask)
        return {"out": [self.b(h) * scale, None], "flag": flag, "last": (x,)}


WILD["optional inputs, keywords, dictionaries"] = Wild(Optional, prunable=8)
WILD["an optional input given"] = Wild(
    Optional, prunable=8, shapes=((2, 3, 8, 12), (2, 1, 8, 12)), other=((1, 3, 12, 8), (1, 1, 12, 8))
)
wild(
    "branches on the content",
    lambda s, x: s.b(h if (h := s.a(x)).mean() > 0 else -h),
    plain(),
    refused=r"cannot be exported: .*wild_shapes.py:\d+",
)
wild(
    "numbers out of tensors",
    lambda s, x: s.b(s.a(x) * x.mean().item()),
    plain(),
    prunable=0,
    frozen={"a": "aten.mul.Tensor has no rule for this form, so that all its channels stay"},
)
wild(
    "a branch on the width",
    lambda s, x: s.b(h if (h := s.a(x)).shape[1] > 6 else -h),
    plain(),
    prunable=0,
    frozen={"a": "when cut"},
)
wild("a width as an output", lambda s, x: (s.b(h := s.a(x)), h.shape[1]), plain(), prunable=0)
wild(
    "the batch mixed",
    lambda s, x: s.b(
        torch.cat(
            [
                h := s.a(x),
                h.std(0, keepdim=True, correction=0)
                .mean((1, 2, 3), keepdim=True)
                .expand(h.shape[0], 1, *h.shape[2:]),
            ],
            1,
        )
    ),
    plain(b=lambda: conv(9, 3)),
    prunable=8,
)
wild(
    "lists of parameters and modules",
    lambda s, x: s.b(sum(m(x) * g for m, g in zip(s.l, s.p, strict=True)) + s.d["k"](x)),
    plain(
        l=lambda: nn.ModuleList([conv(3, 8), conv(3, 8)]),
        p=lambda: nn.ParameterList([raw(8, 1, 1), raw(1)]),
        d=lambda: nn.ModuleDict({"k": conv(3, 8)}),
    ),
    prunable=8,
)
wild(
    "dropouts of every kind",
    lambda s, x: s.b(s.f(s.e(s.d(s.a(x))))),
    plain(d=lambda: nn.Dropout(0.5), e=lambda: nn.Dropout2d(0.5), f=lambda: nn.AlphaDropout(0.5)),
    prunable=8,
)
wild(
    "dropout that never sleeps",
    lambda s, x: s.b(F.dropout(s.a(x), 0.5, True)) * 0 + s.b(s.a(x)),
    plain(),
    prunable=8,
)
wild("noise drawn inside", lambda s, x: s.b((h := s.a(x)) + torch.randn_like(h[:, :1])), plain(), prunable=0)
wild(
    "recurrent cell",
    lambda s, x: s.o(s.r(s.a(x).flatten(2).mT)[0]),
    plain(r=lambda: nn.GRU(8, 4, batch_first=True), o=lambda: nn.Linear(4, 3)),
    prunable=0,
    frozen={"a": "gru.input has no rule, so that all"},
)
wild(
    "lstm cell by hand",
    lambda s, x: s.b(torch.tanh((p := s.a(x).chunk(4, 1))[0]) * torch.sigmoid(p[1]) * p[2] + p[3]),
    plain(a=lambda: conv(3, 32)),
    prunable=8,
)
wild(
    "bilinear layer",
    lambda s, x: s.o(s.l((h := F.adaptive_avg_pool2d(s.a(x), 1).flatten(1)), h)),
    plain(l=lambda: nn.Bilinear(8, 8, 4), o=lambda: nn.Linear(4, 2)),
    prunable=0,
)
wild(
    "a kernel that is computed",
    lambda s, x: F.conv2d(s.a(x), s.c(x)[0, None, :, :3, :3]),
    plain(c=lambda: conv(3, 8)),
    prunable=8,
)

WILD["torch.compile"] = Wild(
    lambda: torch.compile(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3)), backend="eager"),
    refused="the model is compiled .OptimizedModule.; take the network",
)
WILD["torch.compile inside"] = Wild(
    lambda: nn.Sequential(conv(3, 8), torch.compile(conv(8, 6), backend="eager"), conv(6, 3)),
    refused="the submodule 1 is compiled",
)
WILD["DataParallel"] = Wild(
    lambda: nn.DataParallel(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3))),
    refused="wrapped .DataParallel.; take the network",
)


def _scripted(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's; users still bring it
        return torch.jit.script(module)


WILD["torch.jit.script"] = Wild(
    lambda: _scripted(nn.Sequential(conv(3, 8), conv(8, 3))), refused="the model is TorchScript"
)
WILD["torch.jit.script inside"] = Wild(
    lambda: nn.Sequential(conv(3, 8), _scripted(conv(8, 6)), conv(6, 3)),
    refused="the submodule 1 is TorchScript",
)
WILD["lazy"] = Wild(
    lambda: nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyConv2d(3, 3)),
    refused="weight of the submodule 0 is not initialised yet; run the model once",
)
WILD["channels-last weights"] = Wild(
    lambda: nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 3)).to(
        memory_format=torch.channels_last
    ),
    prunable=8,
)


def _strided():
    model = nn.Sequential(conv(3, 8), conv(8, 3))
    model[0].weight = nn.Parameter(
        model[0].weight.detach().permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3)
    )
    model[1].weight.requires_grad_(False)
    return model


WILD["strided and frozen weights"] = Wild(_strided, prunable=8)


class Caching(nn.Module):
    """Keeps what it computed, as visualisations want it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.seen = conv(3, 8), conv(8, 3), 0

    def forward(self, x):
        self.features = self.a(x)
        self.seen += 1
        return self.b(F.relu(self.features))


class Cached(nn.Module):
    """Computes coordinates once per size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.grids = conv(3, 8), conv(9, 3), {}

    def forward(self, x):
        size = tuple(x.shape[2:])
        if size not in self.grids:
            self.grids[size] = torch.linspace(0, 1, size[0])[None, None, :, None]
        return self.b(torch.cat([self.a(x), self.grids[size].expand(x.shape[0], 1, *size)], 1))


class Counting(nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.b(F.relu(self.a(x)))


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.lines = conv(3, 8), conv(8, 3), (i for i in range(3))

    def forward(self, x):
        return self.b(F.relu(self.a(x)))


WILD["features kept"] = Wild(Caching, prunable=8)
WILD["a cache by size"] = Wild(Cached, prunable=8)
WILD["calls counted in a buffer"] = Wild(Counting, prunable=8)
WILD["cannot be copied"] = Wild(
    Uncopyable, refused="the model cannot be copied: cannot pickle .generator. object"
)
wild(
    "weights from a smaller network",
    lambda s, x: F.conv2d(F.relu(s.a(x)), s.h(s.z).view(3, 8, 3, 3), padding=1),
    plain(h=lambda: nn.Linear(5, 216), z=lambda: raw(5)),
    prunable=5,
    frozen={"a": "written out in view"},
)
wild(
    "unused modules and parameters",
    lambda s, x: s.b(F.relu(s.a(x))),
    plain(u=lambda: conv(8, 8), w=lambda: raw(4)),
    prunable=8,
)
wild(
    "integer and boolean buffers",
    lambda s, x: s.b(s.a(x) * s.m * s.i),
    plain(m=lambda: torch.rand(8, 1, 1) > 0.3, i=lambda: torch.arange(8)[:, None, None]),
    prunable=8,
)
wild(
    "spectrum of scales",
    lambda s, x: s.b(torch.cat([F.interpolate(F.avg_pool2d(s.a(x), k), x.shape[2:]) for k in (1, 2, 4)], 1)),
    plain(b=lambda: conv(24, 3)),
    prunable=8,
)


class Auxiliary(nn.Module):
    """A second head that only training sees."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.m, self.b, self.aux = conv(3, 8), conv(8, 6), conv(6, 3), conv(8, 3)

    def forward(self, x):
        h = self.a(x)
        out = self.b(F.relu(self.m(h)))
        return (out, self.aux(h)) if self.training else out


WILD["a head for training only"] = Wild(Auxiliary, prunable=6, frozen={"a": "in training it fails"})


def _chain(s, x):
    h = s.a(x)
    return s.b(s.m(h / h.shape[1]))


def _recurrent_convolution(s, x):
    h = cell = torch.zeros(x.shape[0], s.m.out_channels // 4, *x.shape[2:])
    for _ in range(2):
        i, f, o, g = s.m(torch.cat([x, h], 1)).chunk(4, 1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(cell)
    return s.b(h)


def _resampled(s, x):
    h = s.a(x)
    b, c, rows, columns = h.shape
    h = F.conv2d(h.reshape(b * c, 1, rows, columns), s.k.flip(2), padding=1, stride=2)
    return s.b(h.view(b, c, rows // 2, columns // 2))


zero = {"g": lambda: nn.Parameter(torch.zeros(1))}
# what trial cuts do wrong here cannot be seen with the weights as they are
wild(
    "a width divided by, twenty layers before the output",
    _chain,
    plain(m=lambda: nn.Sequential(*[m for _ in range(20) for m in (conv(8, 8), nn.ReLU())])),
    prunable=160,
    frozen={"a": "when cut"},
)
wild(
    "a width divided by, behind a zero",
    lambda s, x: s.b((h := s.a(x)) + s.g * torch.roll((k := s.c(h)) / k.shape[1], 1, 2)),
    plain(c=lambda: conv(8, 8), **zero),
    prunable=0,
    frozen={"a": "when cut"},
)
wild(
    "noise with a scale per channel",
    lambda s, x: s.b(F.relu(s.a(x) + s.n * torch.randn(x.shape[0], 1, *x.shape[2:]))),
    plain(n=lambda: nn.Parameter(torch.zeros(1, 8, 1, 1))),
    prunable=8,
)
wild(
    "convolutional lstm from zeros",
    _recurrent_convolution,
    lambda: {"m": conv(11, 32), "b": conv(8, 3)},
    prunable=8,
)
wild("a blur of maps one by one", _resampled, plain(k=_kernel), prunable=8)
