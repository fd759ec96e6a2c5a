"""Attention, gates, modulation and norms of the literature."""

import math

import torch
import torch.nn.functional as F
from topologies import conv, raw
from torch import nn
from wild import STYLED, WILD, Wild, labels, plain, styled, wild

# ---- attention


def _sagan(s, x):
    h = F.relu(s.a(x))
    b, c, rows, columns = h.shape
    q = s.q(h).view(b, -1, rows * columns).permute(0, 2, 1)
    k = s.k(h).view(b, -1, rows * columns)
    weights = torch.softmax(torch.bmm(q, k), dim=-1)
    v = s.v(h).view(b, -1, rows * columns)
    return s.b(s.gamma * torch.bmm(v, weights.permute(0, 2, 1)).view(b, c, rows, columns) + h)


def _biggan_attention(s, x):
    h = F.relu(s.a(x))
    q = s.q(h).view(-1, 2, h.shape[2] * h.shape[3])
    k = F.max_pool2d(s.k(h), 2).view(-1, 2, h.shape[2] * h.shape[3] // 4)
    v = F.max_pool2d(s.v(h), 2).view(-1, 4, h.shape[2] * h.shape[3] // 4)
    weights = F.softmax(torch.bmm(q.transpose(1, 2), k), -1)
    out = s.o(torch.bmm(v, weights.transpose(1, 2)).view(-1, 4, h.shape[2], h.shape[3]))
    return s.b(h + s.gamma * out)


def _non_local(s, x):
    h = s.a(x)
    v = s.v(h).flatten(2).transpose(1, 2)
    q = s.q(h).flatten(2).transpose(1, 2)
    weights = q @ s.k(h).flatten(2) / (h.shape[2] * h.shape[3])
    return s.b(h + s.o((weights @ v).transpose(1, 2).unflatten(2, h.shape[2:])))


def _heads_from_shape(s, x):
    b, n, c = (h := s.a(x)).shape
    heads = 2
    q, k, v = s.qkv(h).reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4).unbind(0)
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
    return s.o(s.p(out) + h)


def _linear_attention(s, x):
    h = s.a(x)
    q, k, v = (f(h).flatten(2) for f in (s.q, s.k, s.v))
    context = torch.einsum("bdn,ben->bde", k.softmax(-1), v)
    return s.b(torch.einsum("bde,bdn->ben", context, q).unflatten(-1, h.shape[2:]))


def _channel_attention(s, x):
    h = s.a(x)
    flat = h.flatten(2)
    weights = torch.softmax(flat @ flat.transpose(1, 2), -1)
    return s.b((weights @ flat).view_as(h) + h)


def _cosine_attention(s, x):
    h = s.a(x)
    q, k, v = (f(h).flatten(2) for f in (s.q, s.k, s.v))
    weights = torch.softmax(F.normalize(q, dim=1).transpose(1, 2) @ F.normalize(k, dim=1) * 10, -1)
    return s.b((v @ weights.transpose(1, 2)).unflatten(-1, h.shape[2:]))


def _additive_attention(s, x):
    h = s.a(x).flatten(2).transpose(1, 2)
    energy = s.e(torch.tanh(s.q(h)[:, :, None] + s.k(h)[:, None])).squeeze(-1)
    return s.o(torch.softmax(energy, -1) @ h)


def _scaled_by_module_attribute(s, x):
    h = s.a(x)
    return s.o(torch.softmax(s.q(h) @ s.k(h).transpose(1, 2) * s.scale, -1) @ s.v(h))


def _transformer(s, x):
    h = s.a(x).flatten(2).transpose(1, 2)
    h = h + s.m(n := s.n(h), n, n, need_weights=False)[0]
    return s.o(h + s.g(F.gelu(s.f(s.n2(h)))))


attentions = {"q": lambda: conv(8, 4, 1), "k": lambda: conv(8, 4, 1), "v": lambda: conv(8, 8, 1)}
zero = {"gamma": lambda: nn.Parameter(torch.zeros(1))}

wild("self-attention behind a zero", _sagan, plain(**attentions, **zero), prunable=12)
wild(
    "literal self-attention behind a zero",
    _biggan_attention,
    plain(
        q=lambda: conv(8, 2, 1),
        k=lambda: conv(8, 2, 1),
        v=lambda: conv(8, 4, 1),
        o=lambda: conv(4, 8, 1),
        **zero,
    ),
    prunable=8,
    frozen={"q": "written out in view", "v": "written out in view"},
)
wild("non-local block", _non_local, plain(**attentions, o=lambda: conv(8, 8, 1)), prunable=20)
wild(
    "heads from x.shape",
    _heads_from_shape,
    lambda: {"a": nn.Linear(5, 8), "qkv": nn.Linear(8, 24), "p": nn.Linear(8, 8), "o": nn.Linear(8, 3)},
    shapes=((2, 7, 5),),
    other=((1, 4, 5),),
    prunable=0,
    frozen={"qkv": "scale follows the width", "a": "when cut, it fails"},  # sizes of qkv are read off a
)
wild(
    "nn.MultiheadAttention in a block",
    _transformer,
    plain(
        m=lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        n=lambda: nn.LayerNorm(8),
        n2=lambda: nn.LayerNorm(8),
        f=lambda: nn.Linear(8, 12),
        g=lambda: nn.Linear(12, 8),
        o=lambda: nn.Linear(8, 3),
    ),
    prunable=12,
)
wild(
    "nn.TransformerEncoderLayer",
    lambda s, x: s.o(s.t(s.a(x).flatten(2).transpose(1, 2))),
    plain(t=lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), o=lambda: nn.Linear(8, 3)),
    prunable=12,
)
wild("linear attention", _linear_attention, plain(**attentions), prunable=20)
wild("attention over channels", _channel_attention, plain(), prunable=0)
wild("cosine attention", _cosine_attention, plain(**attentions), prunable=20)
wild(
    "additive attention",
    _additive_attention,
    plain(
        q=lambda: nn.Linear(8, 6),
        k=lambda: nn.Linear(8, 6),
        e=lambda: nn.Linear(6, 1),
        o=lambda: nn.Linear(8, 3),
    ),
    prunable=14,
)
wild(
    "attention with a scale of its own",
    _scaled_by_module_attribute,
    lambda: {
        "a": nn.Linear(5, 8),
        "q": nn.Linear(8, 6),
        "k": nn.Linear(8, 6),
        "v": nn.Linear(8, 6),
        "o": nn.Linear(6, 3),
        "scale": 6**-0.5,
    },
    shapes=((2, 7, 5),),
    other=((1, 4, 5),),
    prunable=20,
)

# ---- gates


def _cbam(s, x):
    h = s.a(x)
    squeezed = s.m(h.mean((2, 3), keepdim=True)) + s.m(h.amax((2, 3), keepdim=True))
    h = h * torch.sigmoid(squeezed)
    spatial = torch.cat([h.mean(1, keepdim=True), h.max(1, keepdim=True)[0]], 1)
    return s.b(h * torch.sigmoid(s.sp(spatial)))


def _selective(s, x):
    one, two = s.a(x), s.c(x)
    z = F.relu(s.f((one + two).mean((2, 3))))
    weights = torch.softmax(torch.stack([s.g(z), s.h(z)], 0), 0)[..., None, None]
    return s.b(one * weights[0] + two * weights[1])


def _eca(s, x):
    h = s.a(x)
    gate = s.e(h.mean((2, 3), keepdim=True).squeeze(-1).transpose(-1, -2))
    return s.b(h * torch.sigmoid(gate.transpose(-1, -2).unsqueeze(-1)))


wild(
    "cbam",
    _cbam,
    plain(m=lambda: nn.Sequential(conv(8, 4, 1), nn.ReLU(), conv(4, 8, 1)), sp=lambda: conv(2, 1, 7)),
    prunable=12,
)
wild(
    "selective kernel",
    _selective,
    plain(
        c=lambda: conv(3, 8), f=lambda: nn.Linear(8, 4), g=lambda: nn.Linear(4, 8), h=lambda: nn.Linear(4, 8)
    ),
    prunable=12,
)
wild(
    "efficient channel attention",
    _eca,
    plain(e=lambda: nn.Conv1d(1, 1, 3, padding=1, bias=False)),
    prunable=0,
)
wild(
    "gated convolution",
    lambda s, x: s.b(F.elu(s.a(x)) * torch.sigmoid(s.g(x))),
    plain(g=lambda: conv(3, 8)),
    prunable=8,
)
wild("maxout", lambda s, x: s.b(torch.maximum(*s.a(x).chunk(2, 1))), plain(a=lambda: conv(3, 16)), prunable=8)
wild(
    "maxout by view",
    lambda s, x: s.b((h := s.a(x)).view(h.shape[0], -1, 2, *h.shape[2:]).amax(2)),
    plain(a=lambda: conv(3, 16)),
    prunable=8,
)
wild(
    "simple gate",
    lambda s, x: s.b((p := s.a(x).chunk(2, 1))[0] * p[1]),
    plain(a=lambda: conv(3, 16)),
    prunable=8,
)
wild(
    "highway",
    lambda s, x: s.b((t := torch.sigmoid(s.t(x))) * s.a(x) + (1 - t) * s.c(x)),
    plain(t=lambda: conv(3, 8), c=lambda: conv(3, 8)),
    prunable=8,
)
wild(
    "crelu",
    lambda s, x: s.b(F.relu(torch.cat([h := s.a(x), -h], 1))),
    plain(b=lambda: conv(16, 3)),
    prunable=8,
)
wild(
    "celu, mish, silu, softsign",
    lambda s, x: s.b(F.softsign(F.silu(F.mish(F.celu(s.a(x)))))),
    plain(),
    prunable=8,
)
wild("softplus shifted back", lambda s, x: s.b(F.softplus(s.a(x)) - math.log(2)), plain(), prunable=8)
wild(
    "layer scale",
    lambda s, x: s.b((h := s.a(x)) + s.g.view(1, -1, 1, 1) * s.c(F.relu(h))),
    plain(g=lambda: nn.Parameter(torch.full((8,), 1e-6)), c=lambda: conv(8, 8)),
    prunable=8,
)
wild(
    "literal layer scale",
    lambda s, x: s.b((h := s.a(x)) + s.g.view(1, 8, 1, 1) * s.c(F.relu(h))),
    plain(g=lambda: nn.Parameter(torch.full((8,), 1e-6)), c=lambda: conv(8, 8)),
    prunable=0,
)

# ---- over channels

for name, function in {
    "softmax": lambda h: h.softmax(1),
    "mean": lambda h: h - h.mean(1, keepdim=True),
    "cumsum": lambda h: h.cumsum(1),
    "prod": lambda h: h * h.prod(1, keepdim=True),
    "argmax": lambda h: h * h.argmax(1, keepdim=True),
    "norm": lambda h: h / (h.norm(dim=1, keepdim=True, p=1) / h.shape[1]),
    "sort": lambda h: h.sort(1)[0],
    "local response norm": lambda h: F.local_response_norm(h, 3),
    "roll": lambda h: h.roll(1, 1),
    "logsumexp": lambda h: h * h.logsumexp(1, keepdim=True),
    "median": lambda h: h - h.median(1, keepdim=True)[0],
    "cosine": lambda h: h * F.cosine_similarity(h, h.flip(3), 1)[:, None],
    "width by hand": lambda h: h * h.sum(1, keepdim=True) / h.shape[1],
    "topk": lambda h: h * h.topk(3, 1)[0].sum(1, keepdim=True),
    "one literal channel": lambda h: h * h[:, 3:4],
    "every other channel": lambda h: torch.cat([h[:, ::2], h[:, 1::2]], 1),
    "indexed channels": lambda h: h[:, [3, 1, 2, 0, 7, 5, 6, 4]],
}.items():
    wild(f"{name} over channels", lambda s, x, f=function: s.b(f(s.a(x))), plain(), prunable=0)
for name, function in {
    "std": lambda h: h / (1 + h.std(1, keepdim=True)),
    "gram": lambda h: h * (h.flatten(2) @ h.flatten(2).mT).mean((1, 2))[:, None, None, None],
}.items():
    wild(f"{name} of live channels", lambda s, x, f=function: s.b(f(s.a(x))), plain(), prunable=8)
for name, function in {
    "flip": lambda h: h.flip(1) + h,
    "sum": lambda h: h * torch.sigmoid(h.sum(1, keepdim=True)),
    "euclidean norm": lambda h: h / (1 + h.norm(dim=1, keepdim=True)),
    "outer product": lambda h: h * torch.einsum("bchw,bdhw->bhw", h, h)[:, None],
    "dot product": lambda h: h * torch.einsum("bchw,bchw->bhw", h, h.flip(2))[:, None],
}.items():
    wild(
        f"{name} over channels is exact",
        lambda s, x, f=function: s.b(f(s.a(x))),
        plain(),
        prunable=4 if name == "flip" else 8,
    )

# ---- norms and modulation


class RMS(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.normalize(x, dim=1) * self.g[:, None, None] * self.g.shape[0] ** 0.5


def _convnext(s, x):
    h = s.a(x)
    t = s.n(s.d(h).permute(0, 2, 3, 1))
    t = s.g * s.q(F.gelu(s.p(t)))
    return s.b(h + t.permute(0, 3, 1, 2))


def _adain(s, x, z):
    h = s.a(x)
    mean, spread = h.mean((2, 3), keepdim=True), h.std((2, 3), keepdim=True)
    scale, shift = s.l(F.relu(s.k(z))).view(h.shape[0], 2, -1, 1, 1).unbind(1)
    return s.b(F.leaky_relu((h - mean) / (spread + 1e-5) * scale + shift, 0.2))


def _film(s, x, z):
    scale, shift = torch.chunk(s.l(z).unsqueeze(2).unsqueeze(3), 2, 1)
    return s.b(F.relu(s.a(x) * (scale + 1) + shift))


def _modulated(s, x, z):
    """StyleGAN2 unfused: scale the input, convolve, demodulate by the weight's norm."""
    h = s.a(x)
    style = s.l(z)
    demodulation = torch.rsqrt(torch.einsum("bi,oi->bo", style**2, s.m.weight.square().sum((2, 3))) + 1e-8)
    return s.b(F.leaky_relu(s.m(h * style[:, :, None, None]) * demodulation[:, :, None, None]))


class Fused(nn.Module):
    """StyleGAN2 as it was published: one grouped convolution, its weights made for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.l, self.w, self.b = conv(3, 8), nn.Linear(5, 8), raw(6, 8, 3, 3), conv(6, 3)

    def forward(self, x, z):
        h = self.a(x)
        w = self.w[None] * self.l(z)[:, None, :, None, None]
        w = w * torch.rsqrt(w.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        b, c, rows, columns = h.shape
        out = F.conv2d(h.reshape(1, b * c, rows, columns), w.reshape(-1, c, 3, 3), padding=1, groups=b)
        return self.b(out.view(b, -1, rows, columns))


def _conditional(s, x, i):
    scale, shift = s.e(i).chunk(2, 1)
    return s.b(F.relu(F.instance_norm(s.a(x)) * scale[..., None, None] + shift[..., None, None]))


def _spade(s, x, y):
    y = F.interpolate(y, size=x.shape[2:], mode="nearest")
    m = F.relu(s.s(y))
    return s.b(F.leaky_relu(s.n(s.a(x)) * (1 + s.g(m)) + s.t(m), 0.2))


def _by_hand(s, x):
    h = (s.a(x) - s.mean[:, None, None]) / torch.sqrt(s.var[None, :, None, None] + 1e-5)
    return s.b(F.relu(h * s.g[None, :, None, None]))


def _evonorm(s, x):
    h = s.a(x)
    b, c, rows, columns = h.shape
    spread = h.view(b, 4, c // 4, rows, columns).var((2, 3, 4), keepdim=True)
    return s.b(
        h * torch.sigmoid(s.v * h) / (spread + 1e-5).sqrt().expand(b, 4, c // 4, 1, 1).reshape(b, c, 1, 1)
    )


wild("rms norm by hand", lambda s, x: s.b(s.n(s.a(x))), plain(n=lambda: RMS(8)), prunable=0)
wild(
    "nn.RMSNorm channels last",
    lambda s, x: s.o(s.n(s.a(x).movedim(1, -1))),
    plain(n=lambda: nn.RMSNorm(8), o=lambda: nn.Linear(8, 3)),
    prunable=8,
)
wild(
    "convnext block",
    _convnext,
    plain(
        d=lambda: conv(8, 8, groups=8),
        n=lambda: nn.LayerNorm(8),
        p=lambda: nn.Linear(8, 12),
        q=lambda: nn.Linear(12, 8),
        g=lambda: nn.Parameter(torch.full((8,), 1e-6)),
    ),
    prunable=20,
)
wild(
    "a norm before everything", lambda s, x: s.b(s.a(s.n(x))), plain(n=lambda: nn.BatchNorm2d(3)), prunable=8
)
wild(
    "two norms in a row",
    lambda s, x: s.b(s.m(s.n(s.a(x)))),
    plain(n=lambda: nn.InstanceNorm2d(8), m=lambda: nn.GroupNorm(8, 8)),
    prunable=8,
)
wild(
    "switchable norm",
    lambda s, x: s.b((w := s.w.softmax(0))[0] * s.n(h := s.a(x)) + w[1] * s.m(h)),
    plain(n=lambda: nn.InstanceNorm2d(8), m=lambda: nn.BatchNorm2d(8), w=lambda: raw(2)),
    prunable=8,
)
wild(
    "statistics by hand",
    _by_hand,
    plain(mean=lambda: torch.randn(8), var=lambda: torch.rand(8) + 1, g=lambda: raw(8)),
    prunable=8,
)
wild("group statistics by hand", _evonorm, plain(v=lambda: raw(1, 8, 1, 1)), prunable=0)
wild(
    "ada-lin",
    lambda s, x: s.b(
        (r := s.r.clamp(0, 1)) * F.instance_norm(h := s.a(x))
        + (1 - r) * (h - h.mean((1, 2, 3), keepdim=True))
    ),
    plain(r=lambda: raw(1, 8, 1, 1)),
    prunable=0,
)
styled(
    "adain with a mapping network",
    _adain,
    plain(k=lambda: nn.Linear(5, 6), l=lambda: nn.Linear(6, 16)),
    prunable=14,
)
styled("film", _film, plain(l=lambda: nn.Linear(5, 16)), prunable=8)
styled(
    "modulated convolution, unfused",
    _modulated,
    plain(l=lambda: nn.Linear(5, 8), m=lambda: conv(8, 6, bias=False), b=lambda: conv(6, 3)),
    prunable=14,
)
WILD["modulated convolution, fused"] = Wild(
    Fused,
    prunable=14,
    shapes=STYLED,
    other=((1, 3, 12, 8), (1, 5)),
)
wild(
    "conditional instance norm",
    _conditional,
    plain(e=lambda: nn.Embedding(4, 16)),
    shapes=((2, 3, 8, 12), labels(4, 2)),
    other=((1, 3, 12, 8), labels(4, 1)),
    prunable=8,
)
wild(
    "spade at another resolution",
    _spade,
    plain(
        n=lambda: nn.BatchNorm2d(8, affine=False),
        s=lambda: conv(4, 6),
        g=lambda: conv(6, 8),
        t=lambda: conv(6, 8),
    ),
    shapes=((2, 3, 8, 12), (2, 4, 16, 24)),
    other=((1, 3, 12, 8), (1, 4, 6, 4)),
    prunable=14,
)
