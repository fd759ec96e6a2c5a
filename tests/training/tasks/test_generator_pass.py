"""Teachers that look on while a task keeps its own losses: what they and their students made in which pass."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganshrink.data import Batches
from ganshrink.training import FitConfig, Taps, fit
from ganshrink.training.tasks import CycleGAN, CycleGANConfig, GeneratorPass, Pix2Pix, Pix2PixConfig

Nets = dict[str, nn.Module]


class Domains:
    """Pictures of two domains in memory."""

    in_channels = out_channels = 3
    size = (16, 16)

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.a, self.b = (torch.rand(6, 3, 16, 16, generator=draw) - shift for shift in (1, 0))

    def __len__(self) -> int:
        return 6

    def sample(self, index: int, rng: Any) -> dict[str, Any]:
        return {"input": self.a[index], "target": self.b[int(rng.integers(6))], "name": str(index)}


def generator(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.Tanh()
    )


def batches() -> Batches:
    return Batches(Domains(), batch_size=2, seed=0)


def cycle() -> CycleGAN:
    return CycleGAN(CycleGANConfig(ndf=4, d_layers=1, lr=2e-3, pool_size=1))


def cycle_nets() -> Nets:
    return cycle().nets(generator(2), 3, 3)


def teachers() -> Nets:
    return {"G_A": generator(3).eval(), "G_B": generator(4).eval()}


def tapped(nets: Nets, guides: Nets) -> dict[str, Taps]:
    on = {
        "G_A": nets["G_A"],
        "G_B": nets["G_B"],
        "teacher_A": guides["G_A"],
        "teacher_B": guides["G_B"],
    }
    return {name: Taps(network, ["0"]) for name, network in on.items()}


def take_a_step(task: CycleGAN, nets: Nets, context: Any) -> None:
    """All that a step computes, the cycles and identities included, without optimising."""
    for update in task.updates(nets):
        for _ in update.losses(context):
            pass


def test_a_cycle_s_features_are_of_the_pass_that_made_the_fake_step_after_step():
    guides = teachers()
    task, nets = cycle().with_teachers(guides), cycle_nets()
    forward = task.forward(nets, tapped(nets, guides))
    for step in range(3):
        batch = batches().at(step)
        context = forward(batch, step, 0)
        take_a_step(task, nets, context)
        for way, image in (("A", batch["input"]), ("B", batch["target"])):
            at_work = context.ways[f"G_{way}"]
            learnt, taught = at_work.features("G")["0"], at_work.features("teacher")["0"]
            torch.testing.assert_close(learnt, nets[f"G_{way}"][0](image))
            torch.testing.assert_close(taught, guides[f"G_{way}"][0](image))
            [reached] = torch.autograd.grad(at_work.fake.sum(), learnt, retain_graph=True)
            assert reached.abs().sum() > 0  # the very tensor that the fake was made of
            torch.testing.assert_close(at_work.taught, guides[f"G_{way}"](image))
            assert not taught.requires_grad and not at_work.taught.requires_grad
            assert torch.equal(at_work.seen(image), image)
        assert context.fake_b is context.ways["G_A"].fake and context.fake_a is context.ways["G_B"].fake


def test_what_an_earlier_pass_left_in_the_taps_is_never_taken_for_this_one_s():
    network = generator(1)
    with Taps(network, ["0"]) as taps:
        network(torch.zeros(1, 3, 16, 16))
        way = GeneratorPass(nn.Identity(), torch.zeros(1, 3, 16, 16), taps={"G": taps})
        with pytest.raises(ValueError, match="nothing passed through '0'"):
            way.features("G")


def test_taps_may_be_on_some_of_the_nets_or_on_none():
    task, nets = cycle(), cycle_nets()
    with Taps(nets["G_B"], ["0"]) as back:
        context = task.forward(nets, {"G_B": back})(batches().at(0), 0, 0)
        assert list(context.ways["G_B"].features("G")) == ["0"]
        assert context.ways["G_A"].features("G") == {}


def test_one_way_may_have_a_teacher_and_the_other_none():
    guide = generator(3).eval()
    task = cycle().with_teachers({"G_A": guide})
    assert task.frozen == (guide,) and cycle().frozen == ()
    context = task.forward(cycle_nets())(batches().at(0), 0, 0)
    torch.testing.assert_close(context.ways["G_A"].taught, guide(batches().at(0)["input"]))
    with pytest.raises(ValueError, match="no teacher looks on here: make the task with"):
        _ = context.ways["G_B"].taught


def train(folder: Path, task: CycleGAN, guides: Nets, terms: Sequence[Any] = ()) -> dict[str, Tensor]:
    """Everything that four steps make, of nets that start the same."""
    nets = cycle_nets()
    settings = {"epochs": 9, "decay_epochs": 0, "max_steps": 4, "accelerator": "cpu", "threads": 1}
    fit(
        nets,
        task.updates(nets, terms),
        batches(),
        FitConfig(**settings),
        forward=task.forward(nets, tapped(nets, guides) if guides else None),
        directory=folder,
        frozen=task.frozen,
    )
    return {f"{name}.{key}": t for name, net in nets.items() for key, t in net.state_dict().items()}


def towards_teachers(context: Any) -> dict[str, Tensor]:
    """A term of features and images, both ways."""
    found = {}
    for name, way in context.ways.items():
        apart = way.features("G")["0"] - way.features("teacher")["0"]
        found[f"{name}_dist"] = apart.square().mean() + (way.fake - way.taught).abs().mean()
    return found


def test_teachers_that_nothing_asks_and_taps_that_are_read_change_no_bit(tmp_path):
    guides = teachers()
    alone = train(tmp_path / "alone", cycle(), {})
    watched = train(tmp_path / "watched", cycle().with_teachers(guides), guides)
    assert [name for name in alone if not torch.equal(alone[name], watched[name])] == []


@pytest.mark.slow
def test_a_guided_training_is_the_same_each_time_and_leaves_its_teachers_as_they_were(tmp_path):
    guides = teachers()
    before = copy.deepcopy({name: net.state_dict() for name, net in guides.items()})
    first, second = (
        train(tmp_path / name, cycle().with_teachers(guides), guides, [towards_teachers])
        for name in ("a", "b")
    )
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    alone = train(tmp_path / "alone", cycle(), {})
    assert all(not torch.equal(first[f"{g}.0.weight"], alone[f"{g}.0.weight"]) for g in ("G_A", "G_B"))
    for name, guide in guides.items():
        assert all(torch.equal(tensor, before[name][key]) for key, tensor in guide.state_dict().items())
        assert not guide.training and all(p.grad is None for p in guide.parameters())


def test_a_guided_pix2pix_keeps_its_own_target_and_shows_its_judge_the_input():
    guide = generator(3).eval()
    task = Pix2Pix(Pix2PixConfig(ndf=4, d_layers=1))
    guided = task.with_teachers({"G": guide, "D": nn.Identity()})
    assert (guided.target, guided.real, guided.frozen) == ("truth", "photos", (guide,))
    nets, batch = task.nets(generator(2), 3, 3), batches().at(0)
    context = guided.forward(nets)(batch, 0, 0)
    [way] = context.ways.values()
    assert context.target is batch["target"] and context.fake is way.fake and context.taught is way.taught
    torch.testing.assert_close(way.taught, guide(batch["input"]))
    torch.testing.assert_close(way.seen(way.fake), torch.cat([batch["input"], way.fake], 1))
    smaller = way.fake[:, :, :8, :8]
    assert way.seen(smaller).shape == (*smaller.shape[:1], 6, 8, 8)  # the input is brought to its size
