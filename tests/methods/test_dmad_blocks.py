"""DMAD: masks of a block that is gone, and masks that are settled for good."""

import copy

import pytest
import torch

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.methods.dmad.search import SearchConfig, group_weights, sparsity_loss
from ganshrink.pruning import add_affine, extract
from ganshrink.pruning.search.masks import Masks, maskable
from telling import rest_exhaustive

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))

# ---- a block that goes takes its masks with it

HALVES = {"its first half": "blocks.0.body.1", "its second half": "blocks.0.body.5"}
ALONE, SHARED = [0, 3, 7], [1, 4]  # trunk channels that the block holds alone, and with one other layer


@pytest.fixture(scope="module")
def two_blocks():
    torch.manual_seed(0)
    model = add_affine(nets.build("resnet6", ngf=4, blocks=2))
    return model, maskable(trace(model, torch.randn(1, 3, 32, 32)))


def with_block_0(two_blocks, alone=ALONE, shared=SHARED, **settings):
    """A network, its masks, all at 0.5 but for trunk channels that its first block holds, and the layers' own masks."""
    model, channels = copy.deepcopy(two_blocks[0]), two_blocks[1]
    masks = Masks(model, channels, **settings)
    of = {layer.producer.module: slice(layer.start, layer.stop) for layer in masks.layers}
    with torch.no_grad():
        masks.inputs.fill_(0.5)
        for name in ("down.7", "blocks.1.body.5"):
            masks.inputs[of[name]][alone] = -2.0
        masks.inputs[of["down.7"]][shared] = -2.0
    return model, masks, of


def trunk(masks):
    """Whether each channel of the residual trunk is in the plan, in the order of its layers' masks."""
    atoms = torch.from_numpy(masks.channels.axes["down.7.weight"][0])
    return masks.live().keep[atoms]


@pytest.mark.slow
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_what_a_block_held_alone_goes_with_it_whichever_half_died(two_blocks, half, at_once):
    model, masks, of = with_block_0(two_blocks)
    if not at_once:
        masks.move(0.9)
        assert trunk(masks).all()
    with torch.no_grad():
        masks.inputs[of[HALVES[half]]] = -2.0
    masks.move(0.8)
    wanted = torch.ones(16, dtype=torch.bool)
    wanted[ALONE] = False
    assert torch.equal(trunk(masks), wanted)
    inner = next(group for group in masks.channels.groups if group.name == "blocks.0.body.1")
    assert not masks.live().keep[inner.atoms].any()
    masks.channels.check(masks.live())


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("rule", ["paper", "code"])
def test_a_gone_block_is_no_member_of_a_sum_any_more(two_blocks, half, rule):
    model, masks, of = with_block_0(two_blocks)
    masks.move(0.9)
    before = group_weights(masks, rule=rule)
    with torch.no_grad():
        masks.inputs[of[HALVES[half]]] = -2.0
    masks.move(0.8)
    wanted = torch.full((16,), 3 / 2)  # of three members the two others live
    wanted[SHARED], wanted[ALONE] = 3, 0
    after = group_weights(masks, rule=rule)
    for name in ("down.7", "blocks.0.body.5", "blocks.1.body.5"):
        torch.testing.assert_close(after[of[name]], wanted)
    assert before[of["down.7"]].tolist() != after[of["down.7"]].tolist()
    loss = sparsity_loss(masks, SearchConfig(lambda_spa=1, group_sparsity=rule))
    slopes = torch.autograd.grad(loss, masks.inputs)[0]
    assert not slopes[of["blocks.0.body.1"]].any() and not slopes[of["blocks.0.body.5"]].any()
    torch.testing.assert_close(slopes[of["blocks.1.body.5"]], wanted)


@pytest.mark.parametrize("floor", rest_exhaustive([1, 3], [3].__contains__))
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_of_a_trunk_that_a_block_held_alone_the_floor_is_left(two_blocks, half, floor, at_once):
    model, masks, of = with_block_0(two_blocks, alone=slice(None), shared=[], floor=floor)
    if not at_once:
        masks.move(0.9)
        assert trunk(masks).all()
    with torch.no_grad():
        masks.inputs[of[HALVES[half]]] = -2.0
    masks.move(0.8)
    assert int(trunk(masks).sum()) == floor
    plan, searched = masks.live(), model(X)
    masks.fold()
    student = extract(model, masks.channels, plan)
    assert student.down[7].out_channels == floor
    torch.testing.assert_close(student(X), searched, rtol=1e-4, atol=1e-5)


# ---- after the search


def finished(two_blocks):
    """A network and its masks after a few steps of Adam and the end of the search, and what goes on learning.

    Each layer of the trunk has zeros where another one lives.
    """
    torch.manual_seed(3)
    model, masks, of = with_block_0(two_blocks)
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.01), torch.optim.Adam([masks.inputs], lr=0.01)]

    def learn(steps):
        for _ in range(steps):
            for optimizer in optimizers:
                optimizer.zero_grad()
            model(X).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
            masks.pin()

    learn(2)
    with torch.no_grad():
        masks.inputs[of["blocks.0.body.5"]][[5, 6]] = -0.4
        masks.inputs[of["down.7"]][9:12] = -0.4
    learn(1)
    masks.move(0.3)
    masks.finish()
    assert trunk(masks).all()
    return model, masks, of, learn


def zero_members(masks):
    """(layer, positions) of masks at 0 on channels that live."""
    lives = torch.cat([masks.live().keep, torch.ones(1, dtype=torch.bool)])[masks.index]
    zeros = (masks.settled < 0) & lives
    found = [(layer, zeros[layer.start : layer.stop]) for layer in masks.layers]
    return [(layer, at) for layer, at in found if at.any()]


def test_zero_members_of_a_channel_that_lives_learn_nothing_any_more(two_blocks):
    """Their scales, shifts and rows have no gradient; what a momentum still does to them is not heard."""
    model, masks, _, learn = finished(two_blocks)
    members = zero_members(masks)
    assert {layer.producer.module for layer, _ in members} == {"down.7", "blocks.0.body.5", "blocks.1.body.5"}

    def tensors():
        for layer, at in members:
            assert layer.producer.axis == 0
            for tensor in (
                *(handle.tensor for handle in layer.handles),
                model.get_parameter(layer.producer.parameter),
            ):
                yield tensor, at

    model.zero_grad()
    model(X).square().mean().backward()
    assert all(not tensor.grad[at].any() and tensor.grad[~at].any() for tensor, at in tensors())
    before, other = (
        [tensor.detach()[at].clone() for tensor, at in tensors()],
        model.up[0].weight.detach().clone(),
    )
    torch.optim.Adam(model.parameters(), lr=0.01).step()
    assert all(
        torch.equal(tensor.detach()[at], was) for (tensor, at), was in zip(tensors(), before, strict=True)
    )
    assert not torch.equal(model.up[0].weight.detach(), other)

    plan = masks.live()
    learn(3)
    assert masks.live() == plan
    searched = model(X)
    with torch.no_grad():
        for tensor, at in tensors():
            tensor[at] = 3.0
    torch.testing.assert_close(model(X), searched, rtol=0, atol=0)
    masks.fold()
    assert not any(handle.tensor.detach()[at].any() for layer, at in members for handle in layer.handles)
    torch.testing.assert_close(model(X), searched, rtol=1e-5, atol=1e-6)


def test_masks_that_are_settled_are_constants(two_blocks):
    model, masks, _, _ = finished(two_blocks)
    masks.inputs.grad = None
    before = masks.values().detach().clone()
    model(X).square().mean().backward()
    assert masks.inputs.grad is None
    assert torch.equal(masks.values(), before) and before.unique().tolist() == [0, 1]
    soft, learning, _ = with_block_0(two_blocks)
    soft(X).square().mean().backward()
    assert learning.inputs.grad.any()


def test_settled_masks_loaded_into_new_ones_are_constants_too_and_back(two_blocks):
    model, masks, _, _ = finished(two_blocks)
    other, fresh, _ = with_block_0(two_blocks)
    early = copy.deepcopy((other.state_dict(), fresh.state_dict()))
    other(X)
    for twin, taken in ((masks, True), (None, False)):
        states = (model.state_dict(), masks.state_dict()) if twin else early
        other.load_state_dict(states[0])
        fresh.load_state_dict(states[1])
        fresh.inputs.grad = None
        other(X).square().mean().backward()
        assert (fresh.inputs.grad is None) == taken
