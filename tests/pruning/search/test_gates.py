"""Gates: the proximal step against its equation, coming back, what the dead still carry, and silence that is exact."""

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Plan, add_affine, extract, zeroed
from ganshrink.pruning.search.gates import Gates
from telling import rest_exhaustive

NETS = [
    ("resnet9", {"ngf": 4, "blocks": 2}),
    ("resnet9", {"ngf": 4, "blocks": 1, "norm": "batch"}),
    ("mobile_resnet9", {"ngf": 4, "blocks": 2}),
    ("cartoongan", {"ngf": 4, "blocks": 2}),
    ("unet256", {"ngf": 4, "downs": 5}),
    ("incres9", {"ngf": 6, "blocks": 1}),
]


def gated(name, options, chosen=lambda group: True, **settings):
    torch.manual_seed(0)
    model = add_affine(nets.build(name, **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.3, 0.3)  # shifts too: what a dead channel would leave behind
    channels = trace(model, torch.randn(1, 3, 64, 96))
    left = {number: "left alone" for number, group in enumerate(channels.groups) if not chosen(group)}
    channels = channels.refrozen(left)
    return model, channels, Gates(model, channels, **{"revive": False} | settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), rest_exhaustive(NETS, lambda case: case == NETS[1]), ids=lambda v: str(v)
)
def test_the_gated_network_is_the_zeroed_and_the_extracted_one(name, options):
    model, channels, gates = gated(name, options)
    with torch.no_grad():
        for own in gates.own:
            own.normal_(0.5, 0.5)
    gates.shrink(0.25)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        searched = model(x)
        gates.fold()
        folded = model(x)
    plan = gates.live()
    assert 0.1 < plan.keep.float().mean() < 0.9
    torch.testing.assert_close(folded, searched, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(zeroed(model, channels, plan)(x), searched, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(extract(model, channels, plan)(x), searched, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_single_scale_is_soft_thresholded():
    """prox(x) = sgn(x) max(|x| - lambda, 0), GAN Slimming's Eq. 14."""
    model, _, gates = gated("resnet9", {"ngf": 4, "blocks": 2}, chosen=lambda g: len(g.producers) == 1)
    before = [scale.detach().clone() for scale in gates.scales]
    gates.shrink(0.2)
    for scale, old in zip(gates.scales, before, strict=True):
        wanted = old.sign() * (old.abs() - 0.2).clamp_min(0)
        torch.testing.assert_close(scale.detach(), wanted)
        assert (scale == 0).equal(old.abs() <= 0.2)  # zeros are exact
    assert sum(len(scale) for scale in before) == 4 + 8 + 16 + 16 + 8 + 4


@pytest.mark.slow
def test_tied_scales_take_the_group_lasso_s_step():
    model, channels, gates = gated("resnet9", {"ngf": 4, "blocks": 2}, chosen=lambda g: len(g.producers) > 1)
    names = ["down.8", "blocks.0.body.6", "blocks.1.body.6"]
    before = torch.stack([model.get_submodule(name).weight.detach().clone() for name in names])
    gates.shrink(0.4)
    after = torch.stack([model.get_submodule(name).weight.detach() for name in names])
    norm = before.norm(dim=0)
    wanted = before * (1 - 0.4 * 3**0.5 / norm).clamp_min(0)
    torch.testing.assert_close(after, wanted)
    assert gates.dead.sum() == (norm <= 0.4 * 3**0.5).sum() > 0


@pytest.mark.slow
def test_magnitudes_are_root_mean_squares_and_infinite_where_nothing_is_gated():
    model, channels, gates = gated("resnet9", {"ngf": 4, "blocks": 2}, chosen=lambda g: len(g.producers) > 1)
    scores = gates.magnitudes()
    trunk = next(g for g in channels.groups if len(g.producers) > 1)
    rows = torch.stack(
        [model.get_submodule(n).weight for n in ("down.8", "blocks.0.body.6", "blocks.1.body.6")]
    )
    torch.testing.assert_close(
        scores[trunk.atoms], rows.double().square().mean(0).sqrt().detach(), rtol=1e-6, atol=0
    )
    others = torch.ones(channels.num_atoms, dtype=torch.bool)
    others[trunk.atoms] = False
    assert torch.isinf(scores[others]).all()


@pytest.mark.slow
def test_groups_that_must_stay_keep_their_best_and_others_may_vanish():
    model, channels, gates = gated("resnet9", {"ngf": 4, "blocks": 2}, floor=2)
    best = {g.name: gates.magnitudes()[g.atoms].topk(2).indices for g in gates.groups}
    gates.shrink(100.0)
    for group in gates.groups:
        alive = gates.live().keep[group.atoms]
        if group.removable:
            assert not alive.any()
        else:
            assert alive.nonzero().flatten().tolist() == sorted(best[group.name].tolist())
    x = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(extract(model, channels, gates.live())(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_dead_stay_silent_under_an_optimizer_with_momentum_and_decay():
    model, channels, gates = gated("cartoongan", {"ngf": 4, "blocks": 1})
    model.train()
    scales = {id(scale) for scale in gates.scales}
    rest = [p for p in model.parameters() if id(p) not in scales]
    optimizers = [torch.optim.Adam(rest, lr=1e-2), torch.optim.SGD(gates.scales, lr=0.05, momentum=0.5)]
    x = torch.randn(1, 3, 64, 96)
    dead = []
    for _ in range(6):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(x).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
        gates.shrink(0.05)
        dead.append(gates.dead.clone())
    assert all((~late[early]).sum() == 0 for early, late in zip(dead, dead[1:], strict=False))
    assert dead[-1].any()
    with torch.no_grad():
        searched = model.eval()(x)
        gates.fold()
    torch.testing.assert_close(extract(model, channels, gates.live())(x), searched, rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_their_state_survives_a_save():
    model, channels, gates = gated("cartoongan", {"ngf": 4, "blocks": 1})
    gates.shrink(0.4)
    other_model, _, other = gated("cartoongan", {"ngf": 4, "blocks": 1})
    other_model.load_state_dict(model.state_dict())
    other.load_state_dict(gates.state_dict())
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(other_model(x), model(x))
    assert other.live() == gates.live() != Plan.full(channels)


def test_networks_of_linear_layers_have_gates_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    channels = trace(model, torch.randn(2, 5))
    gates = Gates(model, channels, revive=False)
    assert [len(own) for own in gates.own] == [8, 6]
    with torch.no_grad():
        gates.own[0][:3] = 0.01
    gates.shrink(0.1)
    assert gates.dead.sum() == 3
    x = torch.randn(4, 5)
    with torch.no_grad():
        searched = model(x)
        gates.fold()
    torch.testing.assert_close(extract(model, channels, gates.live())(x), searched)


def soft(x, amount):
    """Eq. 14 as printed."""
    return x.sign() * (x.abs() - amount).clamp_min(0)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", rest_exhaustive([0.0, 0.5], (0.5).__eq__))
def test_coming_back_the_step_is_that_of_the_paper_s_equations(momentum):
    """Eqs. 12 to 14, transcribed beside it: the scales of a norm, and of a layer without one."""

    def network():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 12, 3), nn.InstanceNorm2d(12, affine=True), nn.LeakyReLU(0.2)]
        nn.init.normal_(layers[1].weight, std=0.02)  # near zero, where they come and go
        return nn.Sequential(*layers, nn.Conv2d(12, 9, 3), nn.ReLU(), nn.Conv2d(9, 3, 3))

    eta, rho, model, twin = 0.2, 0.01, network(), network()
    gamma, own, speeds = twin[1].weight, torch.ones(9), [0.0, 0.0]
    gates = Gates(model, trace(model, torch.randn(2, 3, 12, 12)))
    sgd = torch.optim.SGD(gates.scales, lr=eta, momentum=momentum)
    zeros = []
    for _ in range(60):
        x = torch.randn(2, 3, 12, 12)
        target = 2 * x[..., 3:9, 3:9] + torch.randn(2, 3, 6, 6)
        sgd.zero_grad()
        (model(x) - target).square().mean().backward()
        sgd.step()
        gates.shrink(rho * eta)
        own.requires_grad_()
        made = nn.functional.conv2d(twin[:3](x), twin[3].weight * own.view(-1, 1, 1, 1), twin[3].bias)
        gradients = torch.autograd.grad((twin[4:](made) - target).square().mean(), [gamma, own])  # Eq. 12
        speeds = [momentum * v + g for v, g in zip(speeds, gradients, strict=True)]
        with torch.no_grad():
            gamma.copy_(soft(gamma - eta * speeds[0], rho * eta))  # Eqs. 13 and 14
            own = soft(own - eta * speeds[1], rho * eta)
            wanted = torch.cat([gamma, own])
            torch.testing.assert_close(torch.cat([*gates.scales]), wanted, rtol=1e-4, atol=1e-5)
        zeros.append(wanted == 0)
        assert zeros[-1].sum() == gates.dead.sum()
    zeros = torch.stack(zeros)
    assert (zeros[1:] & ~zeros[:-1]).any() and (zeros[:-1] & ~zeros[1:]).any()  # some went, some came back


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), rest_exhaustive(NETS[1:5], lambda case: case[0] == "unet256"), ids=lambda v: str(v)
)
@torch.no_grad()
def test_what_dead_channels_carry_goes_to_their_readers_and_then_the_cut_is_exact(name, options):
    """Less is lost than by cutting them off, as the released code does; what is lost is what is said."""
    model, channels, gates = gated(name, options, revive=True)
    [*_, head] = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    head.weight.mul_(0.05)  # so that tanh does not saturate
    x = torch.randn(2, 3, 64, 96)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(x)
    model.eval()
    gates.shrink(0.25)
    carried, whole = model(x), {key: value.clone() for key, value in model.state_dict().items()}
    gates.silence()
    cut_off = model(x)
    model.load_state_dict(whole)
    said = gates.settle([(image[None],) for image in x])
    settled = model(x)
    gates.fold()
    torch.testing.assert_close(extract(model, channels, gates.live())(x), settled, rtol=1e-5, atol=1e-5)
    moved = float((settled - carried).norm() / carried.norm())
    assert said == pytest.approx(moved, rel=1e-3)
    assert 0 < moved < 0.5 * float((cut_off - carried).norm() / carried.norm())


@pytest.mark.parametrize("norm", [None, nn.InstanceNorm2d, nn.BatchNorm2d])
def test_behind_reflection_the_constant_is_handed_over_exactly(norm):
    """To a bias, to a batch norm's mean where there is none, or to an instance norm, which takes it out."""
    torch.manual_seed(0)
    reader = nn.Conv2d(8, 6, 3, bias=norm is None)
    between = [] if norm is None else [norm(6, affine=True)]
    head = [nn.ReLU(), nn.Conv2d(6, 3, 1)]
    first = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ReflectionPad2d(1)]
    model = nn.Sequential(*first, reader, *between, *head).eval()
    with torch.no_grad():
        model[1].bias.uniform_(0.5, 1)
        model[1].weight[:4] = 0.01
    channels = trace(model, torch.randn(1, 3, 16, 16))
    gates = Gates(model, channels)
    gates.shrink(0.02)
    x = torch.randn(2, 3, 16, 16)
    before = model(x)
    assert gates.dead.sum() == 4 and gates.settle([(x,)]) < 1e-6
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)
    assert (model[1].bias[:4] == 0).all() and (reader.weight[:, :4] == 0).all()


def test_a_step_can_hold_the_dead():
    _, _, gates = gated("resnet9", {"ngf": 4, "blocks": 1}, revive=True)
    gates.shrink(0.3)
    dead = gates.dead.clone()
    for hold in (True, False):
        with torch.no_grad():
            for scale in gates.scales:
                scale += 0.01 * (scale == 0)
        gates.shrink(0.0, hold=hold)
        assert torch.equal(gates.dead, dead) if hold else not gates.dead.any()
