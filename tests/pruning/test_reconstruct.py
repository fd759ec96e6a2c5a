"""Least squares, layer by layer: against a naive transcription, exact where it can be, and without a trace elsewhere."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import unfold
from torch.nn.utils.parametrizations import weight_norm

import ganshrink
from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract
from ganshrink.pruning.linear_layers import (
    by_group,
    inputs_at,
    kept_outputs,
    matrix,
    outputs_at,
    places_of,
    put,
    unfit,
    unknowns_of,
)


def net(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).double().eval()


def images(count=6, size=8, channels=3):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1)).double()


def cut(teacher, share=0.5, x=None, seed=0):
    channels = trace(teacher, images() if x is None else x)
    plan = Plan.random(channels, share, seed=seed)
    return extract(teacher, channels, plan), channels, plan


LAYERS = [
    (nn.Conv2d(6, 8, 3, 2, 1, groups=2, dilation=2), (2, 6, 13, 11)),
    (nn.Conv2d(6, 4, 3, padding=2, padding_mode="reflect", bias=False), (2, 6, 9, 8)),
    (nn.Conv2d(6, 4, (3, 5), padding="same", dilation=(1, 2), padding_mode="circular"), (2, 6, 9, 11)),
    (nn.Conv1d(6, 12, 3, groups=6, padding=1), (2, 6, 9)),
    (nn.Conv3d(2, 3, 2, padding=(1, 0, 2)), (2, 2, 3, 4, 3)),
    (nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1), (2, 6, 5, 7)),
    (nn.ConvTranspose2d(6, 4, 4, 2, 2, groups=2, bias=False), (2, 6, 5, 7)),
    (nn.ConvTranspose2d(6, 12, 3, 3, 2, dilation=2, groups=6), (2, 6, 5, 7)),
    (nn.ConvTranspose1d(6, 4, 2, stride=3, padding=1), (2, 6, 9)),
    (nn.Linear(6, 5), (2, 7, 6)),
]


@pytest.mark.parametrize("layer, shape", LAYERS, ids=lambda value: type(value).__name__)
@torch.no_grad()
def test_a_layer_is_a_matrix_at_each_place(layer, shape):
    layer = layer.double()
    x = torch.randn(*shape, dtype=torch.float64)
    output = layer(x)
    places = torch.arange(0, places_of(layer, output), 2)
    weight, wanted = matrix(layer), by_group(layer, outputs_at(layer, output, places))
    assert weight.shape[1] == unknowns_of(layer)
    for part, rows in inputs_at(layer, x, output.shape, places):
        torch.testing.assert_close(rows @ weight, wanted[:, part], rtol=0, atol=1e-12)
    twin = copy.deepcopy(layer)
    put(twin, weight + 1)
    put(twin, matrix(twin) - 1)
    torch.testing.assert_close(twin.weight, layer.weight, rtol=0, atol=1e-14)


def naive(layer, calls, ridge):
    """Ridge regression towards the weights of a padded 3 x 3 convolution, all rows of all calls below each other."""
    mode = {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode)
    padded = [nn.functional.pad(x, (1, 1, 1, 1), mode=mode) for x, _ in calls]
    columns = torch.cat([unfold(x, 3).transpose(1, 2).flatten(0, 1) for x in padded]).numpy()
    wanted = torch.cat([target.movedim(1, -1).flatten(0, 2) for _, target in calls]).numpy()
    root = np.sqrt(ridge * (columns**2).sum(0).mean())
    ones, zeros = np.ones((len(columns), 1)), np.zeros((columns.shape[1], 1))
    system = np.block([[columns, ones], [root * np.eye(columns.shape[1]), zeros]])
    below = root * layer.weight.flatten(1).T.numpy()
    found = np.linalg.lstsq(system, np.concatenate([wanted, below]), rcond=None)[0]
    return torch.from_numpy(found[:-1].T).reshape(layer.weight.shape), torch.from_numpy(found[-1])


@torch.no_grad()
def test_it_is_ridge_regression_on_the_students_own_input():
    def conv(a, b):
        return nn.Conv2d(a, b, 3, padding=1, padding_mode="reflect")

    teacher = net(conv(3, 8), nn.Tanh(), conv(8, 6), nn.Tanh(), conv(6, 3))
    student, channels, plan = cut(teacher)
    before = copy.deepcopy(student)
    report = ganshrink.reconstruct(student, teacher, images(), ridge=0.1)
    x = images()
    kept = [channels.cuts(plan)[f"{path}.weight"][0] for path in ("0", "2")] + [np.ones(3, bool)]
    for path, alive in zip((0, 2, 4), kept, strict=True):
        target = teacher[: path + 1](images())[:, alive]
        x = x if path == 0 else student[:path](images())
        if path == 0:  # it reads what the teacher's reads, and loses nothing
            assert torch.equal(student[0].weight, before[0].weight)
            continue
        weight, bias = naive(before[path], [(x, target)], 0.1)
        torch.testing.assert_close(student[path].weight, weight, rtol=0, atol=1e-9)
        torch.testing.assert_close(student[path].bias, bias, rtol=0, atol=1e-9)
    assert [layer.left for layer in report.layers] == ["nothing is lost", None, None]
    assert all(layer.after < layer.before and layer.rows == 6 * 64 for layer in report.layers[1:])
    wanted, made = teacher(images()), student(images())
    assert report.after == pytest.approx(float((made - wanted).norm() / wanted.norm()))
    assert report.after < report.before


@torch.no_grad()
def test_what_was_said_twice_is_said_once_without_loss():
    """Every channel has a twin, and the plan cuts one of each: nothing is lost that its readers cannot have."""
    body = [nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU(), nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.Tanh()]
    teacher = net(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *body, nn.Conv2d(8, 3, 3, padding=1))
    for path in (0, 2):
        teacher[path].weight[1::2] = teacher[path].weight[::2]
        teacher[path].bias[1::2] = teacher[path].bias[::2]
    teacher[4].weight[:, 1::2] = teacher[4].weight[:, ::2]
    teacher[4].bias[1::2] = teacher[4].bias[::2]
    channels = trace(teacher, images())
    plan = Plan.full(channels)
    for group in channels.groups:
        plan.keep[group.atoms[1::2]] = group.frozen is not None
    student = extract(teacher, channels, plan)
    report = ganshrink.reconstruct(student, teacher, images(), ridge=1e-12)
    assert report.before > 0.1
    assert report.after < 1e-8
    torch.testing.assert_close(student(images(2, 10)), teacher(images(2, 10)), rtol=0, atol=1e-7)


@torch.no_grad()
def test_where_nothing_is_cut_nothing_changes():
    teacher = net(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3)).float()
    channels = trace(teacher, images().float())
    student = extract(teacher, channels, Plan.full(channels))
    ganshrink.reconstruct(student, teacher, images().float())
    for (name, mine), theirs in zip(student.state_dict().items(), teacher.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6, msg=name)


class Twice(nn.Module):
    """One convolution is called on the image and on what it made of it."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.head = (
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Conv2d(8, 3, 3),
        )

    def forward(self, x):
        x = self.body(self.stem(x)).relu()
        return self.head(self.body(x).tanh())


@torch.no_grad()
def test_a_module_called_twice_is_fitted_to_both_calls():
    torch.manual_seed(0)
    teacher = Twice().double()
    student, channels, plan = cut(teacher, 0.25)
    body = copy.deepcopy(student.body)
    report = ganshrink.reconstruct(student, teacher, images(), rows=10**6, ridge=0.1)
    kept = channels.cuts(plan)["body.weight"][0]
    x = student.stem(images())
    wanted = teacher.body(teacher.stem(images()))
    calls = [(x, wanted[:, kept]), (None, teacher.body(wanted.relu())[:, kept])]
    once = copy.deepcopy(body)
    once.weight[:], once.bias[:] = naive(body, calls[:1], 0.1)
    calls[1] = (once(x).relu(), calls[1][1])  # what it reads there when it is fitted to the first call
    weight, bias = naive(body, calls, 0.1)
    torch.testing.assert_close(student.body.weight, weight, rtol=0, atol=1e-9)
    torch.testing.assert_close(student.body.bias, bias, rtol=0, atol=1e-9)
    assert report.after < report.before


@torch.no_grad()
def test_statistics_of_norms_move_as_far_as_their_inputs_did():
    teacher = net(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    teacher.append(nn.Conv2d(6, 3, 1).double())
    teacher[3].running_mean.normal_()
    teacher[3].running_var.uniform_(1, 2)
    student, channels, plan = cut(teacher)
    given = copy.deepcopy(student)
    report = ganshrink.reconstruct(student, teacher, images())
    kept = torch.from_numpy(channels.cuts(plan)["3.running_mean"][0])
    mine, theirs = student[:3](images()), teacher[:3](images())[:, kept]
    wanted = given[3].running_mean + mine.mean((0, 2, 3)) - theirs.mean((0, 2, 3))
    torch.testing.assert_close(student[3].running_mean, wanted)
    ratio = mine.var((0, 2, 3)) / theirs.var((0, 2, 3))
    torch.testing.assert_close(student[3].running_var, given[3].running_var * ratio)
    assert report.norms == ("3",)


class Odd(nn.Module):
    """Layers that are called as functions, never, with a shared weight, or with one of their own making."""

    def __init__(self):
        super().__init__()
        self.stem, self.idle, self.functional = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 3, 1), nn.Conv2d(8, 8, 1)
        self.one, self.other = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.other.weight = self.one.weight
        self.own, self.head = Scaled(8, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + nn.functional.conv2d(x, self.functional.weight)
        return self.head(self.own(self.other(self.one(x).relu())))


class Scaled(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * 2


@torch.no_grad()
def test_what_is_left_and_why_and_no_trace_of_the_work():
    torch.manual_seed(0)
    teacher = Odd().train()
    student, channels, plan = cut(teacher, x=images().float())
    student.train()
    student.head.eval()
    given = copy.deepcopy(student)
    flags = [module.training for module in student.modules()]
    random = torch.random.get_rng_state()
    twin = copy.deepcopy(student)
    report = ganshrink.reconstruct(student, teacher, images().float())
    left = {layer.path: layer.left for layer in report.layers}
    assert left == {
        "stem": "nothing is lost",
        "head": None,
        "idle": "it is not called",
        "functional": "it is not called",
        "one": "another module has the same weight",
        "other": "another module has the same weight",
        "own": "Scaled computes in a way of its own",
    }
    for path in left.keys() - {"head"}:
        assert torch.equal(student.get_submodule(path).weight, given.get_submodule(path).weight)
    assert not torch.equal(student.head.weight, given.head.weight)
    assert [module.training for module in student.modules()] == flags
    assert all(module.training for module in teacher.modules())
    assert torch.equal(torch.random.get_rng_state(), random)
    for module in (*student.modules(), *teacher.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    with pytest.raises(ValueError, match="how this student was cut is not known"):
        ganshrink.reconstruct(twin, teacher, images().float())
    ganshrink.reconstruct(twin, teacher, images().float(), channels, plan)
    assert torch.equal(twin.head.weight, student.head.weight)


class Single(nn.Module):
    """Layers that are called on one sample, without a batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear, self.head = nn.Conv2d(3, 3, 3), nn.Linear(3, 3), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = torch.stack([self.conv(image) + self.linear(image[:, 0, 0])[:, None, None] for image in x])
        return self.head(x)


def test_what_is_called_without_a_batch_is_left():
    torch.manual_seed(0)
    teacher = Single().double()
    student = copy.deepcopy(teacher)
    nn.init.normal_(student.head.weight)
    channels = ganshrink.trace(nn.ReLU(), torch.zeros(1, 3, 8, 8))  # of which nothing is cut
    report = ganshrink.reconstruct(
        student, teacher, images(), channels, Plan(torch.ones(0, dtype=torch.bool))
    )
    assert [layer.path for layer in report.layers if layer.left is None] == ["head"]
    assert all("without a batch" in layer.left for layer in report.layers if layer.path != "head")
    assert report.after < report.before / 10


def test_a_failure_leaves_the_student_as_it_was():
    teacher = net(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 3))
    student, *_ = cut(teacher)
    given = copy.deepcopy(student)
    student[4].weight = nn.Parameter(student[4].weight[:, :-1])
    with pytest.raises(RuntimeError):
        ganshrink.reconstruct(student, teacher, images())
    assert torch.equal(student[2].weight, given[2].weight)
    with pytest.raises(ValueError, match="4 is not what this plan leaves of the teacher's"):
        ganshrink.reconstruct(student, nn.Sequential(*teacher[:4], nn.Linear(8, 8).double()), images())


def test_only_layers_whose_own_weight_says_what_they_put_out_are_fitted():
    hooked = nn.Conv2d(3, 4, 3)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    reasons = {
        "a ReLU is no convolution": nn.ReLU(),
        "its weight is computed": weight_norm(nn.Conv2d(3, 4, 3)),
        "it has hooks, which may change": hooked,
    }
    assert all(unfit(module).startswith(reason) for reason, module in reasons.items())
    assert unfit(nn.ConvTranspose2d(4, 8, 3, groups=4)) is None


def test_outputs_that_stay_of_a_transposed_depthwise_layer_are_those_of_its_inputs():
    layer, alive = nn.ConvTranspose2d(4, 8, 3, groups=4), np.array([True, False, True, True])
    kept = kept_outputs(layer, {0: alive})
    x = torch.randn(1, 4, 5, 5) * torch.from_numpy(alive)[:, None, None]
    made = (layer(x) - layer.bias[:, None, None]).abs().amax((0, 2, 3)) > 0
    assert kept.tolist() == made.nonzero().flatten().tolist() == [0, 1, 4, 5, 6, 7]
