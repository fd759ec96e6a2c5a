"""Operators that treat every channel alike leave channels free; others keep those that touch them, and no more."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from test_topologies import difference, shaken
from topologies import Net, conv, raw
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed
from telling import rest_exhaustive

Step = Callable[[Tensor], Tensor]


def picked(h: Tensor) -> Tensor:
    rows = torch.arange(h.shape[2] - 1, -1, -1)
    return h[:, :, rows] + h.index_select(3, rows) + torch.take_along_dim(h, rows.view(1, 1, 1, -1), 3)


def gathered(h: Tensor) -> Tensor:
    order = torch.argsort(torch.arange(h.shape[3], 0, -1)).expand(h.shape)
    return h.gather(3, order) + torch.zeros_like(h).scatter(3, order, h)


def sorted_up(h: Tensor) -> Tensor:
    values, places = h.sort(dim=3)
    return values + h.gather(3, places) + h.topk(2, dim=2).values.sum(2, keepdim=True) + h.cummax(2).values


def summed_up(h: Tensor) -> Tensor:
    return h.cumsum(2) / 8 + h.cumsum(dim=3).flip(3) / 8 + F.pad(h.diff(dim=2), (0, 0, 0, 1)) + h.tril()


def bordered(h: Tensor) -> Tensor:
    h = h.clone()
    h[:, :, 0:1] = 0
    h[..., -1] = 0.0
    h[:, :, :, 2:3] *= 0.5
    h[:, :, 1:3, 1:3].zero_()
    return h


def assigned(h: Tensor) -> Tensor:
    out = torch.zeros_like(h)
    out[:, :, 1:] = h[:, :, :-1]
    out[:, :, :, [0, 2]] = 0
    return out + h


def windows(h: Tensor) -> Tensor:
    mean = h.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    return mean.repeat_interleave(2, 2).repeat_interleave(2, 3)


def moments(h: Tensor) -> Tensor:
    variance, mean = torch.var_mean(h, (2, 3), keepdim=True)
    deviation, other = torch.std_mean(h, dim=(2, 3), keepdim=True)
    return (h - mean) / (variance + 1).sqrt() + (h - other) / (deviation + 1)


def in_place_shapes(h: Tensor) -> Tensor:
    h = (h * 1).transpose_(2, 3).unsqueeze_(0).squeeze_(0).swapaxes_(2, 3)
    return F.feature_alpha_dropout(F.dropout2d(h, 0.5, False, True), 0.5, False, True)


def parts(h: Tensor) -> Tensor:
    left, right = torch.tensor_split(h, 2, dim=1)
    top, rest = torch.tensor_split(h, [2], dim=2)
    tiled = torch.tile(left, (2, 1, 1))
    same, _ = torch.broadcast_tensors(h, h[:, :, :1, :1])
    return torch.cat([left, right], 1) + torch.cat([top, rest], 2) + tiled + same


def spectrum(h: Tensor) -> Tensor:
    low = torch.fft.rfft2(h, norm="ortho")
    low = torch.view_as_complex(torch.stack([low.real, low.imag * 0.5], -1).contiguous())
    shifted = torch.fft.ifftshift(torch.fft.fftshift(torch.fft.fftn(h, dim=(2, 3)), dim=(2, 3)), dim=(2, 3))
    return torch.fft.irfft2(low, s=h.shape[-2:], norm="ortho") + torch.fft.ifftn(shifted, dim=(2, 3)).real


def noise_beside(h: Tensor) -> Tensor:
    one = h.new_empty(h.shape[0], 1, *h.shape[2:])
    return h * (1 + 0 * one.normal_()) + h * (0 * torch.bernoulli(one.uniform_())) * (
        1 + 0 * h.new_empty(1).exponential_()
    )


FREE = [
    picked, gathered, sorted_up, summed_up, bordered, assigned, windows, moments, in_place_shapes, parts, spectrum,
    noise_beside,
]  # fmt: skip


def step_between(step: Step) -> nn.Module:
    torch.manual_seed(0)
    parts = {"a": conv(3, 8), "n": nn.BatchNorm2d(8), "b": conv(8, 3)}
    return shaken(Net(lambda s, x: s.b(step(s.n(s.a(x)))), **parts)).eval()


def exact_cuts(model: nn.Module, channels, *example: Tensor) -> None:
    for seed in range(2):
        plan = Plan.random(channels, 0.5, seed=seed)
        student, reference = extract(model, channels, plan), zeroed(model, channels, plan)
        with torch.no_grad():
            assert difference(student(*example), reference(*example)) < 1e-5


@pytest.mark.parametrize(
    "step", rest_exhaustive(FREE, set(FREE[::2]).__contains__), ids=lambda step: step.__name__
)
def test_what_works_along_space_leaves_channels_free(step):
    model, x = step_between(step), torch.randn(2, 3, 8, 8)
    channels = trace(model, x)
    free = {group.name: len(group) for group in channels.groups if group.frozen is None}
    assert sum(free.values()) == (4 if step is parts else 8), [(g.name, g.frozen) for g in channels.groups]
    exact_cuts(model, channels, x)


def one_border(h: Tensor) -> Tensor:
    h = h.clone()
    h[:, :, 0:1] = 1
    return h


def channel_order(h: Tensor) -> Tensor:
    return h[:, [1, 0, 2, 3, 7, 6, 5, 4]]


def fourier_over_channels(h: Tensor) -> Tensor:
    return torch.fft.fft(h, dim=1).real


def sorted_channels(h: Tensor) -> Tensor:
    return h.sort(1).values


def unknown(h: Tensor) -> Tensor:
    return torch.kron(h, torch.ones(1, 1, 1, 1)) + torch.special.multigammaln(h.abs() + 4, 2)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (one_border, "a dead channel is not zero after fill_"),
        (channel_order, "it meets an axis of fixed size in index"),
        (fourier_over_channels, "it meets an axis of fixed size in fft_fft"),
        (sorted_channels, "it meets an axis of fixed size in sort"),
        (unknown, "aten.kron.default has no rule, so that all its channels stay"),
    ],
)
def test_what_mixes_channels_keeps_them_and_no_others(step, reason):
    torch.manual_seed(0)
    parts = {"a": conv(3, 6), "b": conv(6, 8), "c": conv(8, 6), "d": conv(6, 3)}
    model = shaken(Net(lambda s, x: s.d(torch.relu(s.c(step(s.b(torch.relu(s.a(x))))))), **parts)).eval()
    x = torch.randn(2, 3, 8, 8)
    channels = trace(model, x)
    frozen = {group.name: group.frozen for group in channels.groups}
    assert (frozen["a"], frozen["c"]) == (None, None)
    assert frozen["b"].startswith(reason)
    exact_cuts(model, channels, x)


def in_parts(s, x):
    """What autograd and autocast wrap is a graph of its own within the graph."""
    h = checkpoint(s.b, torch.relu(s.a(x)), use_reentrant=False)
    with torch.autocast("cpu", enabled=False):
        h = torch.relu(s.c(h))
    with torch.no_grad():
        scale = s.c(s.b(h)).mean()
    return s.d(h * torch.sigmoid(scale))


def by_vectors(s, x):
    h = torch.relu(s.a(x))
    return s.d(h * torch.sigmoid(h.movedim(1, -1) @ s.v)[:, None]) + (s.v @ h.flatten(2)).view(-1, 1, 8, 8)


def convolved(s, x):
    h = torch.convolution(x, s.v, s.w, (1, 1), (1, 1), (1, 1), False, (0, 0), 1).relu()
    return torch.convolution(h, s.u, None, (2, 2), (1, 1), (1, 1), True, (1, 1), 1)


def masked_attention(s, x):
    tokens = s.a(x).flatten(2).transpose(1, 2)
    q, k, v = (f(tokens).unflatten(-1, (2, -1)).transpose(1, 2) for f in (s.q, s.k, s.v))
    made = F.scaled_dot_product_attention(q, k, v, attn_mask=s.m, scale=0.3)
    return s.o(made.transpose(1, 2).flatten(2))


def shared_keys(s, x):
    tokens = s.a(x).flatten(2).transpose(1, 2)
    q, k = (
        s.q(tokens).unflatten(-1, (4, -1)).transpose(1, 2),
        s.k(tokens).unflatten(-1, (2, -1)).transpose(1, 2),
    )
    return s.o(F.scaled_dot_product_attention(q, k, k, enable_gqa=True).transpose(1, 2).flatten(2))


def ends(**parts):
    return lambda: {"a": conv(3, 8), **{name: make() for name, make in parts.items()}}


WRITTEN = {  # by hand: the network, its parts, and which groups are free
    "in parts": (in_parts, ends(b=lambda: conv(8, 6), c=lambda: conv(6, 8), d=lambda: conv(8, 3)), "ab"),
    "addmm": (
        lambda s, x: s.l(torch.relu(torch.addmm(s.c, s.a(x).mean((2, 3)), s.w))),
        ends(w=lambda: raw(8, 6), c=lambda: raw(6), l=lambda: nn.Linear(6, 3)),
        "aw",
    ),
    "addmm to activations": (
        lambda s, x: s.l(torch.addmm(s.a(x).mean((2, 3)), s.a(x).mean((2, 3)), s.w)),
        ends(w=lambda: raw(8, 8), l=lambda: nn.Linear(8, 3)),
        "",
    ),
    "vectors": (by_vectors, ends(v=lambda: raw(8), d=lambda: conv(8, 3)), "a"),
    "weights before activations": (
        lambda s, x: s.d(torch.relu(s.w @ torch.relu(s.a(x)).flatten(2)).view(len(x), -1, 8, 8)),
        ends(w=lambda: raw(6, 8), d=lambda: conv(6, 3)),
        "aw",
    ),
    "convolution": (
        convolved,
        lambda: {"v": raw(8, 3, 3, 3), "w": raw(8), "u": raw(8, 3, 3, 3)},
        "v",
    ),
    "masked attention": (
        masked_attention,
        ends(
            **dict.fromkeys("qkv", lambda: nn.Linear(8, 8)), m=lambda: raw(64, 64), o=lambda: nn.Linear(8, 3)
        ),
        "aqv",
    ),
    "shared keys": (
        shared_keys,
        ends(q=lambda: nn.Linear(8, 16), k=lambda: nn.Linear(8, 8), o=lambda: nn.Linear(16, 3)),
        "a",
    ),
    "three operands": (
        lambda s, x: torch.einsum("bchw,oc,po->bphw", torch.relu(s.a(x)), s.w, s.u),
        ends(w=lambda: raw(6, 8), u=lambda: raw(3, 6)),
        "",
    ),
    "one product for all images": (
        lambda s, x: s.d((s.w.expand(1, 6, 8) @ torch.relu(s.a(x)).flatten(2)).unflatten(-1, (8, 8))),
        ends(w=lambda: raw(1, 6, 8), d=lambda: conv(6, 3)),
        "",
    ),
    "constant_pad_nd": (
        lambda s, x: s.d(torch.constant_pad_nd(s.a(x), (1, 1, 1, 1), 0.5)),
        ends(d=lambda: conv(8, 3)),
        "",
    ),
    "channels cropped": (
        lambda s, x: s.d(F.pad(s.a(x), (0, 0, 0, 0, -1, 1))),
        ends(d=lambda: conv(8, 3)),
        "",
    ),
    "divided by the largest": (
        lambda s, x: s.d((h := s.a(x)) / h.abs().max()),
        ends(d=lambda: conv(8, 3)),
        "a",
    ),
    "transforms that name no axes": (
        lambda s, x: s.d(torch.fft.fft2(s.a(x)).real + torch.fft.fftn(s.a(x), s=(8, 8)).real),
        ends(d=lambda: conv(8, 3)),
        "a",
    ),
    "several numbers put": (
        lambda s, x: s.d(s.a(x).index_put((torch.tensor([0]), torch.tensor([1]), torch.tensor([2])), x[0, 0, 0])),
        ends(d=lambda: conv(8, 3)),
        "",
    ),
    "norms of fixed sizes": (
        lambda s, x: s.d(F.group_norm(s.a(x), 4, s.v) + F.layer_norm(s.a(x).movedim(1, -1), (8,), s.v).movedim(-1, 1)),
        ends(v=lambda: raw(8), d=lambda: conv(8, 3)),
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", rest_exhaustive(WRITTEN, {"in parts"}.__contains__))
def test_what_is_written_by_hand_is_cut_exactly_or_kept(name):
    torch.manual_seed(0)
    run, parts, free = WRITTEN[name]
    model, x = shaken(Net(run, **parts())).eval(), torch.randn(2, 3, 8, 8)
    channels = trace(model, x)
    assert {group.name for group in channels.groups if group.frozen is None} == set(free)
    exact_cuts(model, channels, x)


class Modulated(nn.Module):
    """A convolution whose weights are scaled by a style for each image, all images in one call (Karras et al. 2020)."""

    def __init__(self, width: int, style: int) -> None:
        super().__init__()
        self.weight, self.style = nn.Parameter(torch.randn(1, width, width, 3, 3)), nn.Linear(style, width)

    def forward(self, x, z):
        b, c, h, w = x.shape
        kernel = self.weight * self.style(z).view(b, 1, c, 1, 1) / math.sqrt(9 * c)
        kernel = kernel * torch.rsqrt(kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        return F.conv2d(x.reshape(1, b * c, h, w), kernel.view(b * c, c, 3, 3), padding=1, groups=b).view(
            b, c, h, w
        )


class Patches(nn.Module):
    """Contextual attention: an image's own patches are the weights, there and back."""

    def forward(self, x, z):
        out = []
        for image in x.split(1):
            patches = F.unfold(image, 3, stride=2, padding=1)[0].T.reshape(-1, x.shape[1], 3, 3)
            match = torch.softmax(F.conv2d(image, patches, padding=1), 1)
            out.append(F.conv_transpose2d(match, patches, padding=1))
        return torch.cat(out)


class Attending(nn.Module):
    """Two products of activations, one of which adds to what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Conv2d(8, 8, 1)

    def forward(self, x, z):
        q = self.q(x).flatten(2)
        match = torch.baddbmm(q.new_empty(1, 1, 1), q.mT, q, beta=0, alpha=0.1)
        return torch.bmm(q, torch.softmax(match, 2)).view(x.shape)


@pytest.mark.parametrize(
    "inner", rest_exhaustive([lambda: Modulated(8, 5), Patches, Attending], {Patches}.__contains__)
)
@pytest.mark.parametrize("freeze", [(), ("m",)])
def test_weights_that_are_activations_stay_locally_and_count(inner, freeze):
    torch.manual_seed(0)
    parts = {"a": conv(3, 6), "b": conv(6, 8), "m": inner(), "c": conv(8, 6), "d": conv(6, 3)}
    model = Net(lambda s, x, z: s.d(torch.relu(s.c(s.m(torch.relu(s.b(torch.relu(s.a(x)))), z)))), **parts)
    example = torch.randn(1, 3, 8, 8), torch.randn(1, 5)
    channels = trace(shaken(model).eval(), *example, freeze=freeze)
    frozen = {group.name: group.frozen for group in channels.groups}
    assert (frozen["a"], frozen["c"]) == (None, None)
    if freeze:
        assert frozen["b"] == "the submodule m is frozen on request"
    exact_cuts(model, channels, *example)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*example)
    assert channels.cost().macs + channels.attention_macs == counter.get_total_flops() // 2
