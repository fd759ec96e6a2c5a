"""Masks: Eq. 3 of DMAD point by point, what settles and stays settled, and that the network searched is the one cut."""

import copy

import pytest
import torch
from test_topologies import difference, shaken
from topologies import conv
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Plan, add_affine
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.search.masks import Masks, mask_values, maskable
from telling import rest_exhaustive

X = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def eq3(p: float, b: float) -> tuple[float, float]:
    """The mask of one input and its slope, as the paper prints them."""
    if p <= -b:
        return 0.0, 0.0
    if p <= 0:
        return 0.5 * ((p + b) / b) ** 2, (p + b) / b**2
    if p < b:
        return 1 - 0.5 * ((p - b) / b) ** 2, -(p - b) / b**2
    return 1.0, 0.0


def masked(make=None, **settings):
    """A network with norms of every scale and shift, under masks."""
    torch.manual_seed(0)
    model = shaken(folded_copy(add_affine(make() if make else nets.build("resnet9", ngf=4, blocks=1))))
    channels = maskable(trace(model, torch.randn(1, 3, 32, 64)))
    return model, channels, Masks(model, channels, **settings)


def row(*widths):
    """Convolutions of these widths in a row, without norms."""
    ends = zip((3, *widths), (*widths, 3), strict=True)
    return lambda: nn.Sequential(*(layer for a, b in ends for layer in (conv(a, b), nn.ReLU())))


def put(masks, values):
    """Set all inputs that are not settled, by numbers or by a function of how many there are."""
    with torch.no_grad():
        free = masks.settled == 0
        masks.inputs[free] = values(int(free.sum())) if callable(values) else torch.tensor(values)


def between(low, high):
    return lambda count: torch.rand(count) * (high - low) + low


def seen(model, x=X):
    with torch.no_grad():
        return model(x)


# ---- Eq. 3


@pytest.mark.parametrize("b", [1.0, 0.812, 0.3, 0.01])
def test_values_and_slopes_are_those_of_the_equation(b):
    p = (
        torch.cat([torch.linspace(-1.5, 1.5, 61), b * torch.linspace(-1, 1, 41), torch.zeros(1)])
        .double()
        .requires_grad_()
    )
    values = mask_values(p, b)
    values.sum().backward()
    wanted = torch.tensor([eq3(v, b) for v in p.tolist()], dtype=torch.double)
    torch.testing.assert_close(values.detach(), wanted[:, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(p.grad, wanted[:, 1], rtol=1e-9, atol=1e-9)
    assert p.grad.max() == p.grad[-1] == pytest.approx(1 / b)  # steepest in the middle


@pytest.mark.parametrize("b", [1.0, 0.3, 0.01])
def test_the_linear_mask_is_a_ramp_between_the_boundaries(b):
    p = (b * torch.linspace(-1.6, 1.6, 41, dtype=torch.double)).requires_grad_()  # no point at -b or b
    values = mask_values(p, b, shape="linear")
    values.sum().backward()
    for at, value, slope in zip(p.tolist(), values.tolist(), p.grad.tolist(), strict=True):
        assert value == pytest.approx(0 if at < -b else 1 if at > b else (at + b) / (2 * b))
        assert slope == pytest.approx(1 / (2 * b) if -b < at < b else 0)


@pytest.mark.parametrize("b", [1.0, 0.25])
def test_value_and_slope_have_no_jump(b):
    step = 1e-6 * b
    for at in (-b, 0.0, b):
        p = torch.tensor([at - step, at, at + step], dtype=torch.double, requires_grad=True)
        values = mask_values(p, b)
        slopes = torch.autograd.grad(values.sum(), p)[0]
        assert (values.max() - values.min()).abs() < 1e-5
        assert (slopes.max() - slopes.min()).abs() < 1e-5 / b


@pytest.mark.parametrize("shape", ["quadratic", "linear"])
def test_it_ends_as_a_step_without_a_gradient(shape):
    p = torch.tensor([-1.0, -1e-3, 0.0, 1e-3, 1.0], requires_grad=True)
    step = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0])
    ends = mask_values(p, 0.0, shape=shape)
    assert torch.equal(ends.detach(), step)
    assert not torch.autograd.grad(ends.sum(), p)[0].any()
    near = mask_values(p, 1e-4, shape=shape).detach()
    assert torch.equal(near[p != 0], step[p != 0])
    for boundary in (1.0, 0.3, 0.0):  # a number or a tensor, of whatever precision
        by_number = mask_values(p, boundary, shape=shape)
        assert torch.equal(by_number, mask_values(p, torch.tensor(boundary), shape=shape))
        assert torch.equal(by_number, mask_values(p, torch.tensor(boundary, dtype=torch.double), shape=shape))


# ---- what settles


@pytest.mark.slow
def test_they_start_soft():
    torch.manual_seed(0)
    model = add_affine(nets.build("resnet9", ngf=32, blocks=1))
    masks = Masks(model, maskable(trace(model, torch.randn(1, 3, 32, 32))))
    free = masks.settled == 0
    assert masks.boundary == 1
    assert masks.soft().equal(free)
    drawn = masks.inputs.detach()[free]
    assert abs(float(drawn.mean())) < 0.02
    assert float(drawn.std()) == pytest.approx(0.2, rel=0.1)
    assert [name for name, _ in masks.named_parameters()] == ["inputs"]


def test_the_boundary_decides_who_settles():
    _, _, masks = masked(row(6))
    put(masks, [-0.9, -0.5, -0.1, 0.1, 0.5, 0.9])
    assert masks.move(0.5) == 2  # at the boundary: 0, as Eq. 3 has it for p = -b; p = b is a 1 either way
    assert masks.settled.tolist() == [-1, -1, 0, 0, 0, 1]
    assert masks.inputs.tolist() == pytest.approx([-1, -1, -0.1, 0.1, 0.5, 1])
    assert masks.alive().tolist() == [False, False, True, True, True, True]
    assert masks.move(0.0) == 1
    assert masks.settled.tolist() == [-1, -1, -1, 1, 1, 1]
    assert masks.values().tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(["resnet9", "mobile_resnet9", "unet256"], "resnet9".__eq__))
def test_what_settles_at_one_takes_its_mask_along(name):
    """Bug A of the released code: it folds a mask behind an instance norm into the convolution before it."""
    options = {"downs": 5} if name == "unet256" else {"blocks": 1}
    model, _, masks = masked(lambda: nets.build(name, ngf=4, **options))
    put(
        masks,
        lambda count: torch.where(
            torch.rand(count) < 0.2, torch.full((count,), -2.0), between(0.55, 0.85)(count)
        ),
    )
    masks.move(0.9)
    before, old = seen(model), masks.inputs.detach().clone()
    state = copy.deepcopy(model.state_dict())
    assert masks.move(0.5) == 0
    assert not masks.soft().any()
    assert difference(seen(model), before) < 1e-5
    factors = torch.tensor([eq3(p, 0.9)[0] for p in old.tolist()])
    for layer in masks.layers:
        for handle in layer.handles:
            path = next(path for path, module in model.named_modules() if module is handle.module)
            ratio = handle.tensor.detach() / state[f"{path}.{handle.name}"].where(handle.tensor != 0, 1)
            wanted = handle.along(torch.where(old > 0.5, factors, 1.0)[layer.start : layer.stop])
            torch.testing.assert_close(
                ratio, wanted.expand_as(ratio) * (handle.tensor != 0), rtol=1e-4, atol=1e-6
            )
    if name == "resnet9":  # the same factors before the norms instead
        with torch.no_grad():
            for layer in masks.layers:
                own, factor = model.get_submodule(layer.producer.module), factors[layer.start : layer.stop]
                alive = factor > 0
                for handle in layer.handles:
                    handle.tensor[alive] /= factor[alive]
                own.bias.mul_(factor)
                own.weight.transpose(0, layer.producer.axis).mul_(factor[:, None, None, None])
        assert difference(seen(model), before) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", rest_exhaustive(["instance", "batch"], "batch".__eq__))
def test_ending_early_keeps_the_function_and_every_sign(norm, training):
    """Bug B of the released code: below 0 it folds the right-hand parabola, which is negative there."""
    make = lambda: nets.build("resnet9", ngf=4, blocks=1, norm=norm)  # noqa: E731
    model, _, masks = masked(make)
    put(masks, between(-0.9, 0.9))
    model.train(training)
    state = copy.deepcopy(model.state_dict())
    before, soft = seen(model), masks.inputs.detach().clone()
    model.load_state_dict(state)  # running statistics
    masks.finish()
    assert difference(seen(model), before) < 1e-5
    assert masks.boundary == 0
    assert masks.values().unique().tolist() == [0, 1] or masks.alive().all()
    layer = masks.layers[0]
    scale = model.get_submodule("down.2").weight.detach() / state["down.2.weight"]
    low = soft[layer.start : layer.stop] <= 0
    assert ((scale[low] > 0) & (scale[low] <= 0.5)).all()
    assert low.any()
    masks.fold()
    assert difference(seen(model), before) < 1e-5


def test_a_plan_at_the_end_takes_what_had_settled_at_one_too():
    model, channels, masks = masked(row(4, 4))
    put(masks, [0.9, -0.9, 0.1, -0.1, 0.9, 0.2, 0.2, 0.2])
    masks.move(0.5)
    keep = masks.live().keep.clone()
    keep[torch.from_numpy(masks.atoms)[[0, 2, 5]]] = False
    masks.finish(Plan(keep))
    assert masks.settled.tolist() == [-1, -1, -1, 1, 1, -1, 1, 1]
    assert masks.live() == Plan(keep)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_has_settled_never_moves_again_under_adam():
    model, _, masks = masked()
    optimizer = torch.optim.Adam([masks.inputs], lr=0.05, betas=(0.5, 0.999))
    history, moved = [], False
    for step in range(12):
        optimizer.zero_grad()
        (model(X).square().mean() + masks.inputs.sum()).backward()
        optimizer.step()
        moved |= bool((masks.inputs.detach()[masks.settled != 0].abs() != 1).any())
        masks.pin()
        assert (masks.inputs.detach() == masks.settled)[masks.settled != 0].all()
        masks.move(1 - ((step + 1) / 12) ** (1 / 3))
        history.append(masks.settled.clone())
    assert moved  # it tried
    for early, late in zip(history, history[1:], strict=False):
        assert torch.equal(late[early != 0], early[early != 0])
    assert {1, -1} == set(history[5].unique().tolist()) - {0}
    assert (history[-1] != 0).all()


# ---- floors and freezing


@pytest.mark.slow
@pytest.mark.parametrize("floor", rest_exhaustive([1, 3], (3).__eq__))
def test_the_floor_holds_if_everything_goes_at_once(floor):
    model, channels, masks = masked(floor=floor)
    put(masks, between(-3, -2))
    best = {group.name: masks.best_inputs()[group.atoms].topk(floor).indices for group in channels.groups}
    masks.move(0.9)
    for group in channels.groups:
        alive = masks.live().keep[group.atoms]
        if group.frozen is None and group.removable:
            assert not alive.any()
        elif group.frozen is None:
            assert alive.nonzero().flatten().tolist() == sorted(best[group.name].tolist())
    channels.check(masks.live())


def test_the_floor_does_not_raise_the_dead():
    _, _, masks = masked(row(4), floor=2)
    put(masks, [-2.0, -2.0, 0.1, 0.2])
    masks.move(0.9)
    put(masks, [-3.0, -4.0])
    masks.move(0.8)
    assert masks.settled.tolist() == [-1, -1, 1, 1]


def test_what_the_floor_keeps_is_still_heard():
    """An optimizer's step takes inputs past -b, where the mask is 0 already; then the layer is silent for good."""
    model, channels, masks = masked(
        lambda: nn.Sequential(conv(3, 4), nn.InstanceNorm2d(4), nn.ReLU(), conv(4, 3))
    )
    put(masks, [-1.01, -1.02, -1.03, -1.04])
    masks.move(0.99)
    assert masks.settled.tolist() == [1, -1, -1, -1]
    model(X).square().mean().backward()
    assert model[1].weight.grad[0] != 0


@pytest.mark.slow
def test_freezing_settles_outer_layers_that_are_mostly_dead():
    _, _, masks = masked()
    layers = {layer.producer.module: slice(layer.start, layer.stop) for layer in masks.layers}
    outer = {layer.producer.module for layer in masks.layers if layer.outer}
    assert outer == {"down.1", "down.4", "up.0", "up.3"}
    wanted = torch.full((len(masks.inputs),), 0.1)
    for name, own in layers.items():
        size = own.stop - own.start
        count = size // 2 if name == "up.0" else size * 3 // 4
        wanted[own][:count] = -2
    put(masks, lambda count: wanted[masks.settled == 0])
    masks.move(0.9)
    masks.freeze(0.5)
    for name, own in layers.items():
        settled = masks.settled[own]
        assert (settled != 0).all() == (name in outer - {"up.0"})  # up.0: half, which is not more than half
        assert settled.equal(
            torch.where(wanted[own] < 0, -1, 1 if name in outer - {"up.0"} else 0).to(settled)
        )


@pytest.mark.slow
def test_freezing_keeps_the_function():
    model, _, masks = masked(lambda: nets.build("unet256", ngf=4, downs=5))
    put(masks, between(-1.2, 0.5))
    masks.move(0.95)
    before, settled = seen(model), masks.settled != 0
    masks.freeze(0.1)
    assert (masks.settled[~settled] == 1).any()
    assert difference(seen(model), before) < 1e-5


@pytest.mark.exhaustive
@pytest.mark.slow
def test_their_state_survives_a_save():
    model, _, masks = masked()
    put(masks, between(-1, 1))
    masks.move(0.7)
    other_model, _, other = masked()
    other_model.load_state_dict(model.state_dict())
    other.load_state_dict(masks.state_dict())
    assert torch.equal(seen(other_model), seen(model))
    for these in (masks, other):
        these.move(0.3)
    assert torch.equal(seen(other_model), seen(model))
    assert other.live() == masks.live()
    assert other.state_dict().keys() == {"inputs", "settled", "left", "boundary"}
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in masks.state_dict().items())


@pytest.mark.slow
def test_a_boundary_drawn_back_out_opens_what_settled_within_it_and_leaves_the_function():
    model, _, masks = masked()
    put(masks, between(-0.4, 0.6))
    inputs = masks.inputs.detach().clone()
    for boundary in (0.5, 0.3, 0.1, 0.0):
        masks.move(boundary)
    before, dead = seen(model), masks.settled < 0
    masks.reopen(0.25)
    assert difference(seen(model), before) < 1e-5
    opened = ~dead & (inputs > 0) & (inputs < 0.25)
    assert 0.1 < opened.float().mean() < 0.9
    assert torch.equal(masks.settled == 0, opened) and torch.equal(masks.soft(), opened)
    assert torch.equal(masks.inputs[opened], inputs[opened])
    assert (masks.settled[dead] == -1).all()
