"""DMAD's lesson against its paper (section III.C): attention of generator and discriminator, and the latter's features."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_dmad as tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ganshrink import nets
from ganshrink.losses import nearest
from ganshrink.methods.dmad import DmadConfig, dmad
from ganshrink.methods.dmad.dmad import DistillationLoss, DistillConfig
from ganshrink.training import Taps
from ganshrink.training.stages import Run
from ganshrink.training.tasks import Task
from telling import rest_exhaustive

TAPS = ("down.6", "blocks.0", "blocks.1")


def judge_of(channels: int) -> nn.Sequential:
    """Activations of 16 x 16, 8 x 8 and 4 x 4, with a norm that would show that it is in training mode."""
    layers: list[nn.Module] = []
    for inside, outside, stride in ((channels, 4, 1), (4, 5, 2), (5, 6, 2)):
        conv = nn.Conv2d(inside, outside, 3, stride=stride, padding=1)
        layers += [conv, nn.BatchNorm2d(outside), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(6, 1, 3))


def walk(generator: Any, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """What comes out at `TAPS`, and the image."""
    at = [generator.down[:7](x)]
    at.append(generator.blocks[0](generator.down[7:](at[0])))
    at.append(generator.blocks[1](at[1]))
    return at, generator.up(at[2])


def at_size(attention: Tensor, size: int) -> Tensor:
    if attention.shape[-1] > size:
        return adaptive_avg_pool2d(attention[None, None], size)[0, 0]
    return interpolate(attention[None, None], size=size, mode="bilinear")[0, 0]


def by_the_paper(
    config: DistillConfig,
    student: Any,
    teacher: Any,
    judge: Any,
    x: Tensor,
    *,
    beside: bool,
    mixes: Sequence[Any],
) -> dict[str, Tensor]:
    """Eqs. 7 to 10 image by image. Two of the three taps are 4 x 4, so the discriminator's layers are taken in the order
    4 x 4, 8 x 8, 16 x 16."""
    learnt, fake = walk(student, x)
    with torch.no_grad():
        taught, image = walk(teacher, x)

    def features(shown: Tensor) -> list[Tensor]:
        ends = [judge[:3](torch.cat([x, shown], 1) if beside else shown)]
        ends.append(judge[3:6](ends[0]))
        return [judge[6:9](ends[1]), ends[1], ends[0]]

    judged, of_teacher = features(fake), features(image)[0].detach()
    attention = fea = torch.zeros(())
    for n in range(len(x)):
        for i, mix in zip(range(3), mixes, strict=True):

            def a(feature: Tensor, n: int = n) -> Tensor:  # Eq. 7
                total = sum(feature[n, c].abs() ** 2 for c in range(feature.shape[1]))
                return total / (feature.shape[1] if config.attention == "mean" else 1)

            size = learnt[i].shape[-1]
            layers = judged[: config.judge_layers]
            looked = sum(at_size(a(f if config.judge_gradient else f.detach()), size) for f in layers)
            target = {
                "sum": lambda g, d: 0.5 * g + config.judge_weight * d,  # Eq. 8
                "multiply": lambda g, d: g * d,
                "none": lambda g, d: g,
                "conv": lambda g, d, mix=mix: (
                    mix.weight[0, 0, 0, 0] * g + mix.weight[0, 1, 0, 0] * d + mix.bias
                ),
            }[config.fusion](a(taught[i]), looked)
            own = a(learnt[i])
            apart = target / target.norm() - own / own.norm()
            pixels = size**2 if config.attention_norm == "mean" else 1
            attention = attention + (apart**2).sum() / pixels / len(x)  # Eq. 9
        fea = fea + ((of_teacher[n] - judged[0][n]) ** 2).sum()
    fea = fea.sqrt() if config.feature_norm == "plain" else fea / len(x)  # Eq. 10
    terms = {"att": config.lambda_att * attention, "fea": config.lambda_fea * fea}
    return {name: term for name, term in terms.items() if getattr(config, f"lambda_{name}")}


LESSONS: list[dict[str, Any]] = [
    {},
    {"attention": "mean"},
    {"attention_norm": "sum"},
    {"fusion": "none"},
    {"fusion": "none", "lambda_fea": 0},
    {"fusion": "multiply"},
    {"fusion": "conv"},
    {"judge_layers": 2},
    {"judge_layers": 9},
    {"judge_gradient": False},
    {"judge_weight": 0.25, "attention": "mean", "attention_norm": "sum"},
    {"feature_norm": "plain"},
    {"lambda_att": 0},
    {"lambda_fea": 0},
    {"lambda_fea": 0, "judge_gradient": False, "judge_layers": 2},
]


@pytest.mark.parametrize("name", rest_exhaustive(["G", "G_B"], ["G_B"].__contains__))
@pytest.mark.parametrize("changes", LESSONS, ids=str)
def test_the_lesson_is_the_paper_s(changes, name):
    """Losses and gradients at the student, for pix2pix, whose D sees the input too, and both ways of a CycleGAN."""
    config = DistillConfig(**{"lambda_att": 0.5, "lambda_fea": 0.3} | changes)
    task: Task = tiny.pix2pix() if name == "G" else tiny.cyclegan()
    torch.manual_seed(4)
    student, teacher = tiny.resnet(ngf=3).train(), tiny.seasoned(tiny.resnet())
    judge = tiny.seasoned(judge_of(6 if name == "G" else 3))
    lesson = DistillationLoss(
        name, config, judge if config.lambda_fea or config.fusion != "none" else None, TAPS
    )
    pictures = {"input": torch.stack(tiny.pictures(2, 5)), "target": torch.stack(tiny.pictures(2, 6))}
    x = pictures["target" if name == "G_B" else "input"]
    networks = dict.fromkeys(("G", "G_A", "G_B"), student)
    with Taps(student, TAPS) as learnt, Taps(teacher, TAPS) as taught:
        taps = {name: learnt, name.replace("G", "teacher"): taught}
        context = task.with_teachers({name: teacher}).forward(networks, taps)(pictures, 0, 0)
        losses = lesson.losses(context.ways[name])
    wanted = by_the_paper(
        config, student, teacher, judge, x, beside=name == "G", mixes=lesson.mixes or [None] * 3
    )
    assert {key: loss.item() for key, loss in losses.items()} == pytest.approx(
        {f"{name}_{key}": loss.item() for key, loss in wanted.items()}, rel=1e-4
    )
    learners = [*student.parameters(), *lesson.mixes.parameters()]
    found, expected = (
        torch.autograd.grad(sum(terms.values()), learners, allow_unused=True) for terms in (losses, wanted)
    )
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            # the teacher sees pictures one by one, here all at once: sums that cancel differ by rounding
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert not any(module._forward_hooks for module in judge.modules())


@pytest.mark.parametrize(
    ("task", "lambda_spa", "lambda_att"),
    [(tiny.pix2pix, 0.01, 50), (tiny.cyclegan, 0.001, 100), (tiny.image2image, 0.001, 100)],
)
def test_without_weights_they_are_those_that_the_paper_has_for_the_task(task, lambda_spa, lambda_att):
    config = DmadConfig().for_task(task())
    assert (config.search.lambda_spa, config.distill.lambda_att) == (lambda_spa, lambda_att)
    given = DmadConfig(search={"lambda_spa": 0}, distill={"lambda_att": 0}).for_task(task())
    assert (given.search.lambda_spa, given.distill.lambda_att) == (0, 0) and given.distill.judged


@pytest.mark.parametrize("size", [16, 64])
def test_the_default_weight_follows_the_size_of_the_maps(size):
    """The released code's 100 over the pixels of a map: 0.0244 of the printed sum at 64x64, and 0.39 at 16x16."""
    config = DmadConfig(distill={"fusion": "none", "lambda_fea": 0}).for_task(tiny.cyclegan()).distill
    ours, theirs = torch.rand(2, 2, 3, size, size, generator=torch.Generator().manual_seed(1))
    way = SimpleNamespace(
        features=lambda of: {"tap": ours if of == "G" else theirs}, seen=lambda x: x, fake=None
    )
    loss = DistillationLoss("G", config, None, ["tap"]).losses(way)["G_att"]
    a, b = (maps.square().sum(1).flatten(1) for maps in (ours, theirs))
    apart = a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)
    assert loss == pytest.approx(100 / size**2 * float(apart.square().sum(1).mean()), rel=1e-4)


# ---- which layer of the discriminator


def maps(*sizes: int) -> list[Tensor]:
    return [torch.zeros(1, 1, size, size) for size in sizes]


def heights(layers: Sequence[Tensor]) -> list[int]:
    return [layer.shape[2] for layer in layers]


@pytest.mark.parametrize("order", [(64, 16, 16, 64), (16, 64, 64, 16), (64, 64, 16, 16)], ids=str)
def test_on_a_u_net_the_layer_is_the_released_code_s_though_two_others_are_as_near(order):
    """64, 32 and, but for rounding, 31 are as far from 64, 16, 16 and 64 on average."""
    sizes = [(size, size) for size in order]
    judged = maps(128, 64, 32, 31)
    assert heights(nearest(judged, sizes, 1)) == [64]
    assert heights(nearest(judged, sizes, 2)) == [64, 32]
    assert heights(nearest(judged, sizes, 9)) == [64, 32, 31, 128]


def test_rounding_does_not_choose_among_layers_as_near():
    """On images of 128 x 256 the logarithms of the last of three add up to a hair less."""
    judged = [
        torch.zeros(1, 1, height, 2 * height + odd) for height, odd in ((64, 0), (32, 0), (16, 0), (15, 1))
    ]
    sizes = [(32, 64), (8, 16), (8, 16), (32, 64)]
    assert heights(nearest(judged, sizes, 4)) == [32, 16, 15, 64]


@pytest.mark.parametrize(
    ("judged", "sizes", "wanted"),
    [
        ((16, 4), [(8, 8)], [16, 4]),
        ((4, 16), [(8, 8)], [4, 16]),
        ((128, 64, 32, 31), [(64, 64)] * 4, [64, 128, 32, 31]),
        ((128, 64, 32, 31), [(40, 40)], [32, 31, 64, 128]),
        ((24, 12, 6, 5), [(6, 24), (24, 6)], [24, 12, 6, 5]),
    ],
    ids=str,
)
def test_of_layers_as_near_the_earlier_is_taken(judged, sizes, wanted):
    assert heights(nearest(maps(*judged), sizes, len(judged))) == wanted


# ---- where it looks, if nobody says where


def default_maps(folder: Path, make: Any, size: int) -> dict[str, Tensor]:
    """The taps of a run that names none, and what is caught there in the generator."""
    work = tiny.job(make, data=tiny.pairs(size), budget="macs=100%", max_steps=1)
    dmad(Run(folder), work, tiny.settings(fusion="none", lambda_fea=0))
    paths = json.loads((folder / "stages/distill/done.json").read_text())["made_from"]["taps"]
    model = make().eval()
    with Taps(model, paths) as taps, torch.no_grad():
        model(*work.example)
        return taps.take()


@pytest.mark.slow
def test_on_a_u_net_it_looks_at_maps_in_which_there_is_something_to_see(tmp_path):
    maps = default_maps(tmp_path, lambda: nets.build("unet256", ngf=2, downs=5), 64)
    assert len(maps) == 4
    assert {path: found.shape for path, found in maps.items() if min(found.shape[2:]) < 4} == {}
    assert {path.partition(".")[0] for path in maps} == {"down", "up"}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_on_a_resnet_it_looks_where_the_paper_does(tmp_path):
    maps = default_maps(tmp_path, lambda: nets.build("resnet9", ngf=4), 32)
    assert list(maps) == ["down.9", "blocks.2", "blocks.5", "blocks.8"]
    assert {tuple(found.shape[2:]) for found in maps.values()} == {(8, 8)}
