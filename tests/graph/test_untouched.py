"""Tracing and cutting leave the user's network, and what its code keeps anywhere, as they were."""

import random
import sys
from functools import lru_cache
from types import ModuleType

import numpy as np
import pytest
import torch
from test_topologies import difference
from topologies import Net, conv
from torch import nn

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed
from ganshrink.pruning.untouched import untouched
from telling import rest_exhaustive

GRIDS: dict[tuple[int, ...], torch.Tensor] = {}
LAST: list[torch.Tensor] = []
SLOT: torch.Tensor | None = None
CALLS = 0


def ramp(x: torch.Tensor) -> torch.Tensor:
    return torch.linspace(0, 1, x.shape[-1]).expand(x.shape[0], 1, *x.shape[2:]) * 1


def by_size(x: torch.Tensor) -> torch.Tensor:
    if tuple(x.shape) not in GRIDS:
        GRIDS[tuple(x.shape)] = ramp(x)
    return GRIDS[tuple(x.shape)]


def in_a_list(x):
    LAST[:] = [t for t in LAST if t.shape[2:] == x.shape[2:] and len(t) == len(x)] or [ramp(x)]
    return LAST[0]


def in_a_slot(x):
    global SLOT, CALLS  # noqa: PLW0603
    CALLS += 1
    if SLOT is None or SLOT.shape[2:] != x.shape[2:] or len(SLOT) != len(x):
        SLOT = ramp(x)
    return SLOT


@lru_cache
def _cached(*shape):
    return ramp(torch.empty(shape))


def in_a_cached_function(x):
    return _cached(*x.shape)


def in_a_default(x, grids={}):  # noqa: B006
    return grids.setdefault(tuple(x.shape), ramp(x))


def closure():
    grids = {}

    def run(x):
        if x.shape not in grids:
            grids[x.shape] = ramp(x)
        return grids[x.shape]

    return run


class Holder:
    grids: dict = {}
    last = None

    def __call__(self, x):
        Holder.last = Holder.last if Holder.last is not None and Holder.last.shape == x.shape else ramp(x)
        return self.grids.setdefault(tuple(x.shape), Holder.last)


class Sized(nn.Module):
    """Keeps grids as attributes that are named after sizes."""

    def forward(self, x):
        name = f"grid_{'_'.join(map(str, x.shape))}"
        if not hasattr(self, name):
            setattr(self, name, ramp(x))
        return getattr(self, name)


KEEPERS = [by_size, in_a_list, in_a_slot, in_a_cached_function, in_a_default, closure(), Holder(), Sized()]


@torch.no_grad()
@pytest.mark.parametrize(
    "keep",
    rest_exhaustive(KEEPERS, KEEPERS[::2].__contains__),
    ids=lambda k: getattr(k, "__qualname__", type(k).__name__),
)
def test_a_network_that_keeps_grids_computes_the_same_after_trace(keep):
    torch.manual_seed(0)
    model = Net(lambda s, x: s.b(s.a(x) * s.keep(x)), a=conv(3, 8), b=conv(8, 3), keep=keep).eval()
    sizes = [torch.randn(1, 3, 8, 12), torch.randn(2, 3, 8, 12), torch.randn(1, 3, 16, 8)]
    attributes = [sorted(vars(m)) for m in model.modules()]
    channels = trace(model, sizes[0])
    student = extract(model, channels, plan := Plan.random(channels, 0.5))
    assert [sorted(vars(m)) for m in model.modules()] == attributes
    grids = [ramp(x) for x in sizes]
    for x, grid in zip(sizes, grids, strict=True):
        assert torch.equal(model(x), model.b(model.a(x) * grid))
        assert difference(student(x), zeroed(model, channels, plan)(x)) < 1e-5
    assert channels.prunable == 8


def test_what_counts_calls_outside_of_the_network_is_put_back():
    model = Net(lambda s, x: s.b(s.a(x) * in_a_slot(x)), a=conv(3, 8), b=conv(8, 3))
    before, slot = CALLS, SLOT
    channels = trace(model, torch.randn(1, 3, 8, 12))
    extract(model, channels, Plan.random(channels, 0.5))
    assert before == CALLS
    assert slot is SLOT


class Proxy:
    """Answers a name that it does not know with an error of its own, as settings and lazy objects do."""

    def __getattr__(self, name):
        raise RuntimeError(f"{name}: not set up yet")


PROXY = Proxy()
PACKAGES = ModuleType("packages")


@pytest.mark.parametrize(
    ("file", "back"),
    [("/usr/lib/python3/dist-packages/a.py", False), ("/home/me/a.py", True), (None, False)],
)
def test_installed_packages_are_left_alone_wherever_they_lie(file, back, monkeypatch):
    monkeypatch.setitem(sys.modules, "packages", PACKAGES)
    PACKAGES.__file__, PACKAGES.seen = file, []
    with untouched(Net(lambda s, x: (PROXY, PACKAGES))):
        PACKAGES.seen.append(1)
    assert (PACKAGES.seen == []) is back


def test_a_hook_that_writes_to_the_original_is_undone():
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3))
    model.features = None
    model[1].register_forward_hook(lambda module, inputs, output: setattr(model, "features", output))
    channels = trace(model, torch.randn(1, 3, 8, 12))
    extract(model, channels, Plan.random(channels, 0.5))
    assert model.features is None


class Moving(nn.Module):
    """Moves on at every forward, in evaluation too: a counter, a buffer, a parameter's data, a list."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 3)
        self.register_buffer("seen", torch.zeros(()))
        self.u = nn.Parameter(torch.ones(8), requires_grad=False)
        self.calls, self.kept = 0, []

    def forward(self, x):
        self.seen += 1
        self.calls += 1
        self.kept.append(self.calls)
        with torch.no_grad():
            self.u.copy_(self.u * 0.5 + 1)
        return self.b(torch.relu(self.a(x)) * self.u[:1])


def test_the_check_moves_nothing_on():
    torch.manual_seed(0)
    model = Moving().eval()
    model(torch.randn(1, 3, 8, 12))
    channels = trace(model, torch.randn(1, 3, 8, 12))
    student = extract(model, channels, Plan.random(channels, 0.5))
    for net in (model, student):
        assert (float(net.seen), net.calls, net.kept) == (1, 1, [1])
        assert torch.equal(net.u[:1], torch.tensor([1.5]))


def test_random_numbers_go_on_as_if_nothing_had_been_traced():
    def run(s, x):
        return s.b(s.a(x) + random.random() + np.random.rand() + torch.rand(()) * 0)  # noqa: NPY002

    model = Net(run, a=nn.Conv2d(3, 8, 1), b=conv(8, 3))
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    channels = trace(model, torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(0)))
    extract(model, channels, Plan.full(channels))
    assert states == (
        random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(),  # noqa: NPY002
    )  # fmt: skip
