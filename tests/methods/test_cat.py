"""CAT against its paper: Algorithm 1 by the letter, Eqs. 3 and 5, what is inherited and what is fresh."""

import copy
import functools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ganshrink import nets
from ganshrink.data import Batches, TensorPairs
from ganshrink.methods.base import Job
from ganshrink.methods.cat import CatConfig, cat
from ganshrink.methods.original import Original
from ganshrink.pruning import Budget
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import norm_scale
from ganshrink.training.stages import Run
from ganshrink.training.tasks import Pix2Pix, Pix2PixConfig
from ganshrink.training.train import StudentTraining

pytestmark = pytest.mark.slow

SIZE = 32


@functools.cache
def incres() -> nn.Module:
    """The same for all tests, none of which may change it."""
    torch.manual_seed(1)
    network = nets.build("incres9", ngf=12, blocks=2)
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.1, 2)
    return network


@functools.cache
def original(generator: nn.Module) -> Original:
    """Traced once."""
    example = torch.zeros(1, 3, SIZE, SIZE)
    return Original(lambda: copy.deepcopy(generator), (example,), {"affine": True})


def job(generator: nn.Module, *, budget: str = "macs=30%", steps: int = 0, **options) -> Job:
    generator_of_pairs = torch.Generator().manual_seed(0)
    pairs = [(torch.rand(3, SIZE, SIZE, generator=generator_of_pairs) * 2 - 1,) * 2 for _ in range(4)]
    task = Pix2Pix(Pix2PixConfig(ndf=4, d_norm="none"))
    trained = task.nets(copy.deepcopy(generator), 3, 3)
    training = StudentTraining(max_steps=steps, batch_size=2, log_every=1, accelerator="cpu", **options)
    return Job(
        original=original(generator),
        teacher=lambda: trained,
        task=task,
        data=TensorPairs(pairs),
        budget=Budget.parse(budget),
        training=training,
        progress=False,
    )


def algorithm_1(network: nn.Module, budget: int, floor: int) -> int:
    """The threshold search as the paper has it, each probe a network built anew; returns the MACs it ends with."""
    stem = [network.down[i] for i in (2, 5, 8)] + [network.up[i] for i in (1, 4)]
    branches = [
        [b[2] if isinstance(b[0], nn.ReflectionPad2d) else b[1] for b in block.body[0].branches]
        for block in network.blocks
    ]
    scales = torch.cat([n.weight.detach().abs() for n in (*stem, *(n for row in branches for n in row))])

    def macs(threshold: float) -> int:
        def width(norm: nn.Module, least: int) -> int:
            return max(int((norm.weight.detach().abs() > threshold).sum()), min(least, norm.num_features))

        first, second, trunk, up1, up2 = (width(norm, floor) for norm in stem)
        area = SIZE * SIZE
        total = 49 * 3 * first * area + 9 * first * second * area // 4 + 9 * second * trunk * area // 16
        for row in branches:
            for position, norm in enumerate(row):
                hidden, kernel = width(norm, 0), (1, 3, 5)[position % 3]
                if position < 3:
                    total += 2 * kernel**2 * trunk * hidden * area // 16
                else:
                    total += (2 * trunk * hidden + kernel**2 * hidden) * area // 16
        return total + 9 * trunk * up1 * area // 16 + 9 * up1 * up2 * area // 4 + 49 * up2 * 3 * area

    low, high = float(scales.min()), float(scales.max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if macs(middle) > budget else (low, middle)
    return macs(high)


@pytest.mark.parametrize("percent", [60, 30, 20])
def test_the_search_is_algorithm_1_and_then_uses_what_it_leaves_over(percent):
    network, channels = incres(), original(incres()).channels
    budget = channels.cost().macs * percent // 100
    plan = bisect_threshold(channels, norm_scale(network, channels), Budget.parse(f"macs={budget}"), floor=4)
    by_the_letter = algorithm_1(network, budget, floor=4)
    assert by_the_letter <= channels.cost(plan).macs <= budget


def test_the_student_starts_fresh_and_the_discriminator_as_the_teachers(tmp_path):
    work = job(incres())
    teacher = work.teacher()
    result = cat(Run(tmp_path), work, CatConfig(search={"floor": 4}))
    student = result.students["G"]
    assert all(norm.weight.eq(1).all() for norm in student.modules() if isinstance(norm, nn.InstanceNorm2d))
    assert abs(student.down[7].weight.std().item() - 0.02) < 0.004
    discriminator = load_file(tmp_path / "stages/distill/D.safetensors")
    for name, tensor in teacher["D"].state_dict().items():
        assert torch.equal(discriminator[name], tensor)


def test_the_student_fits_the_budget_and_any_generator_can_be_the_teacher(tmp_path):
    """A ResNet without affine norms: they are made affine, and scales of 1 rank nothing, so the plan says what scored."""
    torch.manual_seed(0)
    work = job(nets.build("resnet9", ngf=8, blocks=2), budget="macs=40%", steps=1)
    result = cat(Run(tmp_path), work, CatConfig(search={"floor": 2}))
    channels, plan = result.channels["G"], result.plans["G"]
    assert channels.cost(plan).macs <= channels.cost().macs * 0.4
    assert set(result.basis.values()) == {"L2"}
    assert result.students["G"](torch.zeros(1, 3, SIZE, SIZE)).shape == (1, 3, SIZE, SIZE)


@pytest.mark.parametrize("alignment", ["global", "batch"])
def test_the_distillation_term_is_equation_3(tmp_path, alignment):
    """Only the first logged step is compared: there the student's weights are still those that can be recomputed."""
    generator = incres()
    paths = ("down.9", "blocks.0", "blocks.1")
    config = CatConfig(
        search={"floor": 4}, distill={"lambda_dist": 2.0, "alignment": alignment, "taps": paths}
    )
    start = cat(Run(tmp_path / "start"), job(generator), config).students["G"].train()
    work = job(generator, steps=1)
    cat(Run(tmp_path / "run"), work, config)
    logged = (tmp_path / "run/stages/distill/events.jsonl").read_text()
    term = json.loads(logged.splitlines()[0])["losses"]["G_dist"]
    batch = Batches(work.data, batch_size=2, seed=0).at(0)["input"]

    def features(network: nn.Module) -> list[torch.Tensor]:
        kept: list[torch.Tensor] = []
        hooks = [
            network.get_submodule(p).register_forward_hook(lambda m, i, o: kept.append(o)) for p in paths
        ]
        with torch.no_grad():
            network(batch)
        for hook in hooks:
            hook.remove()
        return kept

    def index(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if alignment == "global":
            x, y = (z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).double() for z in (x, y))
        else:
            x, y = (z.reshape(len(z), -1).double() for z in (x, y))
        return ((x @ x.T) * (y @ y.T)).sum() / ((x @ x.T).norm() * (y @ y.T).norm())

    expected = -2.0 * sum(
        index(x, y) for x, y in zip(features(generator.eval()), features(start), strict=True)
    )
    assert term == pytest.approx(float(expected), rel=1e-4)


def test_without_taps_the_papers_four_are_taken(tmp_path, caplog):
    work = job(nets.build("resnet9", ngf=4), budget="macs=50%")
    with caplog.at_level("INFO"):
        cat(Run(tmp_path), work, CatConfig(search={"floor": 2}))
    assert "down.9, blocks.2, blocks.5, blocks.8" in caplog.text


def test_batch_alignment_at_batch_size_1_is_refused(tmp_path):
    work = job(incres(), steps=1)
    object.__setattr__(work, "training", work.training.model_copy(update={"batch_size": 1}))
    with pytest.raises(ValueError, match="constantly 1 at batch size 1"):
        cat(Run(tmp_path), work, CatConfig(search={"floor": 4}, distill={"alignment": "batch"}))


def test_the_plan_survives_its_json(tmp_path):
    work = job(incres())
    result = cat(Run(tmp_path), work, CatConfig(search={"floor": 4}))
    again = cat(Run(tmp_path), work, CatConfig(search={"floor": 4}))
    assert again.plans["G"] == result.plans["G"]
    assert (Path(tmp_path) / "stages/search/plan.json").is_file()
