"""Extraction leaves a plain network of the same kind, and the user's own untouched."""

import copy
import warnings

import pytest
import torch
from test_topologies import difference, shaken
from topologies import CASES, Net, conv
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, initialise, zeroed
from telling import rest_exhaustive


def small_resnet():
    torch.manual_seed(0)
    return shaken(nets.build("resnet9", ngf=8, blocks=2, affine=True))


@pytest.mark.slow
def test_attributes_follow_the_weights():
    model = shaken(
        nn.Sequential(
            conv(3, 8),
            nn.InstanceNorm2d(8),
            nn.Conv2d(8, 16, 3, groups=8),
            nn.BatchNorm2d(16),
            nn.PReLU(16),
            nn.Conv2d(16, 12, 3, groups=2),
            nn.GroupNorm(4, 12),
            nn.ConvTranspose2d(12, 8, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 6),
            nn.Linear(6, 2),
        )
    )
    channels = trace(model, torch.randn(2, 3, 12, 16), exact=True)
    student = extract(model, channels, Plan.random(channels, 0.5))
    attributes = [
        (0, "out_channels", 4),
        (1, "num_features", 4),
        (2, "in_channels", 4),
        (2, "groups", 4),
        (2, "out_channels", 8),
        (3, "num_features", 8),
        (4, "num_parameters", 8),
        (5, "in_channels", 8),
        (5, "groups", 2),
        (5, "out_channels", 6),
        (6, "num_channels", 6),
        (6, "num_groups", 2),
        (7, "in_channels", 6),
        (7, "out_channels", 4),
        (10, "in_features", 4),
        (10, "out_features", 3),
        (11, "in_features", 3),
        (11, "out_features", 2),
    ]
    assert [(i, name, getattr(student[i], name)) for i, name, _ in attributes] == attributes


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_users_model_is_never_touched():
    for make in (small_resnet, CASES["spectral norm"].make, CASES["weight norm"].make):
        model = make().train()
        before = copy.deepcopy(model.state_dict())
        x = torch.randn(1, 3, 16, 16)
        channels = trace(model, x)
        plan = Plan.random(channels, 0.5)
        extract(model, channels, plan)
        zeroed(model, channels, plan)
        assert all(m.training for m in model.modules())
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) for k in before)
        assert model(x).requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("training", rest_exhaustive([True, False], bool))
def test_training_mode_and_types_are_kept_and_nothing_stays_frozen(training):
    model = small_resnet().double().train(training)
    model.down[1].requires_grad_(False)
    channels = trace(model, torch.randn(1, 3, 16, 16, dtype=torch.double))
    student = extract(model, channels, Plan.random(channels, 0.5))
    assert all(m.training == training for m in student.modules())
    assert all(p.dtype == torch.double for p in student.parameters())
    assert all(p.requires_grad for p in student.parameters())
    assert not model.down[1].weight.requires_grad


@pytest.mark.exhaustive
@pytest.mark.slow
def test_half_precision():
    model = small_resnet().to(torch.bfloat16)
    channels = trace(model, torch.randn(1, 3, 16, 16, dtype=torch.bfloat16))
    student = extract(model, channels, Plan.random(channels, 0.5))
    assert {p.dtype for p in student.parameters()} == {torch.bfloat16}
    assert len(student.down[1].weight) == 4


@pytest.mark.exhaustive
def test_a_student_trains():
    model = small_resnet().train()
    channels = trace(model, torch.randn(1, 3, 16, 16))
    student = extract(model, channels, Plan.random(channels, 0.5))
    student(torch.randn(2, 3, 16, 16)).sum().backward()
    assert all(p.is_leaf and p.grad is not None and p.grad.shape == p.shape for p in student.parameters())


@pytest.mark.exhaustive
def test_batch_statistics_are_cut_along():
    model = shaken(nets.build("resnet9", ngf=8, blocks=1, norm="batch"))
    channels = trace(model, torch.randn(1, 3, 16, 16))
    plan = Plan.random(channels, 0.5)
    student = extract(model, channels, plan)
    alive = plan.keep[channels.groups[0].atoms]
    assert torch.equal(student.down[2].running_mean, model.down[2].running_mean[alive])
    assert torch.equal(student.down[2].running_var, model.down[2].running_var[alive])


@pytest.mark.slow
def test_zeroed_silences_rows_biases_norms_and_columns():
    model = small_resnet()
    channels = trace(model, torch.randn(1, 3, 16, 16))
    plan = Plan.random(channels, 0.5)
    big = zeroed(model, channels, plan)
    dead = ~plan.keep[channels.groups[0].atoms]
    for tensor in (big.down[1].weight, big.down[1].bias, big.down[2].weight, big.down[2].bias):
        assert not tensor[dead].any()
        assert tensor[~dead].any()
    assert not big.down[4].weight[:, dead].any()
    assert [p.shape for p in big.parameters()] == [p.shape for p in model.parameters()]


def test_shared_modules_stay_shared():
    case = CASES["tied weights"]
    model = case.make().eval()
    channels = trace(model, torch.randn(case.shapes[0]))
    student = extract(model, channels, Plan.random(channels, 0.5))
    assert student.b.weight is student.c.weight


@pytest.mark.parametrize("name", ["spectral norm", "weight norm", "old-style spectral norm"])
def test_parametrizations_are_folded(name):
    torch.manual_seed(0)
    model = CASES[name].make().eval()
    x = torch.randn(1, 3, 12, 16)
    channels = trace(model, x)
    full = extract(model, channels, Plan.full(channels))
    with torch.no_grad():
        assert difference(full(x), model(x)) < 1e-6
    assert {n for n, _ in full.named_parameters()} == {"a.weight", "a.bias", "b.weight", "b.bias"}


def test_old_style_weight_norm_after_a_forward_pass():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch deprecates it; users still bring it
        model = nn.Sequential(nn.utils.weight_norm(conv(3, 8)), nn.ReLU(), nn.utils.weight_norm(conv(8, 3)))
    x = torch.randn(1, 3, 12, 16)
    model(x).sum().backward()  # leaves a computed weight behind, which deepcopy refuses
    channels = trace(model, x)
    plan = Plan.random(channels, 0.5)
    with torch.no_grad():
        assert difference(extract(model, channels, plan)(x), zeroed(model, channels, plan)(x)) < 1e-5
        assert difference(extract(model, channels, Plan.full(channels))(x), model(x)) < 1e-6


def test_fresh_means_the_fields_initialisation():
    torch.manual_seed(0)
    model = Net(
        lambda s, x: s.c(s.n(s.b(s.a(x))) * s.g),
        a=conv(3, 256),
        b=conv(256, 256),
        n=nn.BatchNorm2d(256),
        g=nn.Parameter(torch.randn(1, 256, 1, 1)),
        c=conv(256, 3),
    )
    shaken(model).train()
    channels = trace(model, torch.randn(1, 3, 8, 8))
    plan = Plan.random(channels, 0.5)
    student = extract(model, channels, plan, init="fresh")
    inherited = extract(model, channels, plan)
    assert abs(float(student.b.weight.detach().std()) - 0.02) < 1e-3
    assert not student.b.bias.any()
    assert (student.n.weight == 1).all()
    assert not student.n.bias.any()
    assert not student.n.running_mean.any()
    assert (student.n.running_var == 1).all()
    assert torch.equal(student.g, inherited.g)
    assert student.training
    with pytest.raises(ValueError, match="inherit or fresh, got 'random'"):
        extract(model, channels, plan, init="random")


def test_initialise_reaches_through_parametrizations():
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(64, 64, 3)))
    initialise(model)
    assert abs(float(model[0].parametrizations.weight.original.detach().std()) - 0.02) < 1e-3


def test_a_pixel_shuffle_starts_without_a_checkerboard():
    """The kernels whose outputs it puts side by side are alike, so that one colour stays one."""
    torch.manual_seed(0)
    chain = [
        nn.Conv2d(3, 8, 3),
        nn.PixelShuffle(2),
        nn.Conv2d(2, 27, 1),
        nn.PixelShuffle(3),
        nn.Conv2d(3, 3, 1),
    ]
    model = initialise(nn.Sequential(*chain))
    spread = model(torch.rand(1, 3, 1, 1).expand(1, 3, 6, 6)).detach().flatten(2).std(2)
    assert float(spread.max()) < 1e-9 < float(model[0].weight.detach().std())
    assert model[0].weight.unique(dim=0).shape[0] == 2 and model[2].weight.unique(dim=0).shape[0] == 3
    assert model[4].weight.unique(dim=0).shape[0] == 3


@pytest.mark.slow
def test_another_network_is_refused():
    model = small_resnet()
    channels = trace(model, torch.randn(1, 3, 16, 16))
    plan = Plan.random(channels, 0.5)
    with pytest.raises(ValueError, match=r"down.1.weight has shape .* not that of the traced network"):
        extract(nets.build("resnet9", ngf=16, blocks=2, affine=True), channels, plan)
    with pytest.raises(ValueError, match="this network has no"):
        zeroed(nets.build("resnet9", ngf=8, blocks=1, affine=True), channels, plan)


def test_extract_checks_itself():
    model = small_resnet()
    channels = trace(model, torch.randn(1, 3, 16, 16))
    other = small_resnet()
    other.down.register_forward_hook(lambda module, inputs, output: output + output.shape[1])
    with pytest.raises(RuntimeError, match="is not the planned one: its output is off by"):
        extract(other, channels, Plan.random(channels, 0.5))
