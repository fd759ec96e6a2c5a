"""CycleGAN against a transcription of its paper and code, its students, and a kill with a full pool."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.data import Batches
from ganshrink.training import FitConfig, FitResult, Update, fit
from ganshrink.training.checkpoint import load_checkpoint
from ganshrink.training.tasks import TASKS, CycleGAN, CycleGANConfig

Nets = dict[str, nn.Module]


class Domains:
    """Pictures of two domains in memory, drawn apart."""

    in_channels = out_channels = 3
    size = (16, 16)
    paired = False

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.a = torch.rand(6, 3, 16, 16, generator=draw) - 1
        self.b = torch.rand(6, 3, 16, 16, generator=draw)

    def __len__(self) -> int:
        return 6

    def sample(self, index: int, rng: Any) -> dict[str, Any]:
        return {"input": self.a[index], "target": self.b[int(rng.integers(6))], "name": str(index)}


def small(**changes: Any) -> CycleGAN:
    return CycleGAN(CycleGANConfig(**({"ndf": 4, "d_layers": 1, "lr": 2e-3} | changes)))


def generator(width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1), nn.Tanh()
    )


def nets_of(task: CycleGAN) -> Nets:
    torch.manual_seed(2)
    return task.nets(generator(), 3, 3)


def batches(size: int = 2) -> Batches:
    return Batches(Domains(), batch_size=size, seed=0)


def terms_of(task: Any, nets: Nets, batch: dict[str, Any] | None = None) -> dict[str, Tensor]:
    """Every loss term of one step, without optimising."""
    context = task.forward(nets)(batch or batches().at(0), 0, 0)
    return {
        k: v for update in task.updates(nets) for terms in update.losses(context) for k, v in terms.items()
    }


def naive(nets: Nets, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The generators' and the judges' losses, written out: equations 1 to 3 and section 5.2, least squares."""
    g, f, d_b, d_a = (nets[name] for name in ("G_A", "G_B", "D_A", "D_B"))
    generators = {
        "G_A_gan": ((d_b(g(a)) - 1) ** 2).mean(),
        "G_B_gan": ((d_a(f(b)) - 1) ** 2).mean(),
        "cycle_A": 10 * (f(g(a)) - a).abs().mean(),
        "cycle_B": 10 * (g(f(b)) - b).abs().mean(),
        "idt_A": 10 * 0.5 * (g(b) - b).abs().mean(),
        "idt_B": 10 * 0.5 * (f(a) - a).abs().mean(),
    }
    judges = {
        "D_A_real": 0.5 * ((d_b(b) - 1) ** 2).mean(),
        "D_A_fake": 0.5 * (d_b(g(a).detach()) ** 2).mean(),
        "D_B_real": 0.5 * ((d_a(a) - 1) ** 2).mean(),
        "D_B_fake": 0.5 * (d_a(f(b).detach()) ** 2).mean(),
    }
    return generators, judges


def test_terms_equal_the_paper_s():
    task = small()
    nets = nets_of(task)
    batch = batches().at(0)
    generators, judges = naive(nets, batch["input"], batch["target"])
    torch.testing.assert_close(terms_of(task, nets), generators | judges)


def test_weights_scale_their_terms_and_at_0_take_them_away():
    nets = nets_of(small())
    plain, scaled = (
        terms_of(small(**w), nets) for w in ({}, {"lambda_gan": 3, "lambda_cycle": 20, "lambda_identity": 1})
    )
    for name, factor in (("G_A_gan", 3), ("cycle_B", 2), ("idt_A", 4), ("D_A_fake", 1)):
        torch.testing.assert_close(scaled[name], factor * plain[name])
    assert not {"idt_A", "idt_B"} & terms_of(small(lambda_identity=0), nets).keys()
    assert not {"cycle_A", "idt_A"} & terms_of(small(lambda_cycle=0), nets).keys()


def test_the_papers_defaults_make_the_published_discriminators():
    """70 x 70 PatchGANs on single images with instance norm: 2.76 M parameters."""
    assert TASKS["cyclegan"].Config() == CycleGANConfig()
    nets = CycleGAN().nets(nn.Conv2d(3, 3, 1), 3, 3)
    assert [sum(p.numel() for p in nets[name].parameters()) for name in ("D_A", "D_B")] == [2_764_737] * 2
    assert CycleGANConfig().pool_size == 50


def test_the_generator_back_is_like_the_one_there_with_weights_of_its_own():
    nets = nets_of(small())
    there, back = nets["G_A"].state_dict(), nets["G_B"].state_dict()
    assert {k: v.shape for k, v in there.items()} == {k: v.shape for k, v in back.items()}
    assert not torch.equal(there["0.weight"], back["0.weight"])
    with pytest.raises(ValueError, match="inputs have 4 channels and targets 3"):
        small().nets(nn.Conv2d(4, 3, 1), 4, 3)


def test_one_optimiser_for_both_generators_then_one_for_both_judges():
    task = small(beta1=0.4)
    nets = nets_of(task)
    updates = task.updates(nets)
    assert [update.name for update in updates] == ["G", "D"]
    for update in updates:
        [optimizer] = update.optimizers
        of = {id(p) for way in "AB" for p in nets[f"{update.name}_{way}"].parameters()}
        assert {id(p) for group in optimizer.param_groups for p in group["params"]} == of
        assert {group["betas"] for group in optimizer.param_groups} == {(0.4, 0.999)}


def train(
    nets: Nets, updates: list[Update], task: CycleGAN, folder: Path, *, size: int = 2, **changes: Any
) -> FitResult:
    settings = {"epochs": 9, "decay_epochs": 0, "log_every": 1, "accelerator": "cpu", "threads": 1}
    config = FitConfig(**(settings | changes))
    return fit(nets, updates, batches(size), config, forward=task.forward(nets), directory=folder)


def test_three_steps_are_those_of_a_loop_written_out(tmp_path):
    """G first; then D, which sees the images that G made before its step."""
    task = small(pool_size=0, d_norm="none")  # a bias before a norm has gradients of rounding errors alone
    nets = nets_of(task)
    for module in (m for net in nets.values() for m in net.modules() if isinstance(m, nn.Conv2d)):
        module.reset_parameters()  # torch's own weights: larger, so that each step shows
    by_hand = copy.deepcopy(nets)
    train(nets, task.updates(nets), task, tmp_path, max_steps=3)

    optimizers = {
        kind: torch.optim.Adam(
            [p for way in "AB" for p in by_hand[f"{kind}_{way}"].parameters()], lr=2e-3, betas=(0.5, 0.999)
        )
        for kind in "GD"
    }
    for step in range(3):
        batch = batches().at(step)
        generators, judges = naive(by_hand, batch["input"], batch["target"])
        for kind, losses in (("G", generators), ("D", judges)):
            params = [p for group in optimizers[kind].param_groups for p in group["params"]]
            gradients = torch.autograd.grad(sum(losses.values()), params)
            for param, gradient in zip(params, gradients, strict=True):
                param.grad = gradient
        for optimizer in optimizers.values():
            optimizer.step()
    for name, net in nets.items():
        torch.testing.assert_close(net.state_dict(), by_hand[name].state_dict(), rtol=1e-3, atol=1e-5)


def test_the_judges_are_shown_what_the_pools_give_and_the_generators_answer_for_their_own():
    task = small(pool_size=1)
    nets = nets_of(task)
    batch = batches(1).at(0)
    earlier = {way: torch.full((3, 16, 16), value) for way, value in (("A", 0.3), ("B", -0.6))}
    fakes = {"A": nets["G_A"](batch["input"]).detach(), "B": nets["G_B"](batch["target"]).detach()}
    shown = set()
    for seed in range(12):
        updates = task.updates(nets)
        pools = updates[1].state
        for way in "AB":
            pools[f"pool_{way}"].load_state_dict({"images": [earlier[way]]})
        torch.manual_seed(seed)
        context = task.forward(nets)(batch, 0, 0)
        terms = {k: v for update in updates for losses in update.losses(context) for k, v in losses.items()}
        for way in "AB":
            exchanged = torch.equal(pools[f"pool_{way}"].state_dict()["images"][0], fakes[way][0])
            judged = earlier[way][None] if exchanged else fakes[way]
            expected = 0.5 * nets[f"D_{way}"](judged).square().mean()
            torch.testing.assert_close(terms[f"D_{way}_fake"], expected)
            own = (nets[f"D_{way}"](fakes[way]) - 1).square().mean()
            torch.testing.assert_close(terms[f"G_{way}_gan"], own)
            shown.add((way, exchanged))
    assert len(shown) == 4


def everything(nets: Nets, updates: list[Update]) -> dict[str, Tensor]:
    """All that training changes."""
    found = {f"{n}.{k}": v for n, net in nets.items() for k, v in net.state_dict().items()}
    for update in updates:
        for index, kept in update.optimizers[0].state_dict()["state"].items():
            found |= {f"{update.name}.{index}.{k}": v for k, v in kept.items()}
        for name, pool in update.state.items():
            found |= {f"{name}.{i}": image for i, image in enumerate(pool.state_dict()["images"])}
    return found


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"precision": "bf16-mixed"}], ids=str)
def test_a_training_killed_with_full_pools_goes_on_to_the_bit(tmp_path, changes):
    task = small(pool_size=2)
    settings = {"size": 1, "max_steps": 9, "checkpoint_steps": 4, **changes}

    def run(folder: Path, *, stop_at: int | None = None) -> tuple[dict[str, Tensor], FitResult]:
        nets = nets_of(task)
        updates = task.updates(nets)

        def stop(context: Any) -> None:
            if context.step == stop_at:
                raise KeyboardInterrupt

        updates[1].after = stop
        result = train(nets, updates, task, folder, **settings)
        return everything(nets, updates), result

    whole, _ = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", stop_at=6)
    saved = load_checkpoint(tmp_path / "killed/checkpoint.pt", key="")
    assert saved["step"] == 4 and [len(saved["state"][f"pool_{w}"]["images"]) for w in "AB"] == [2, 2]
    resumed, result = run(tmp_path / "killed")
    assert result.resumed_at == 4
    assert whole.keys() == resumed.keys() and "pool_B.1" in whole
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_a_student_learns_from_its_teacher_s_pairs_and_inherits_the_judge_of_its_way(direction):
    task = small(gan_mode="hinge")
    nets = nets_of(task)
    of_teacher = task.one_way(nets, direction)
    way = direction[0]
    assert of_teacher == {"G": nets[f"G_{way}"], "D": nets[f"D_{way}"]}

    teacher = of_teacher["G"].eval()
    taught = task.as_student_task(teacher)
    student = taught.nets(generator(2), 3, 3)
    student["D"].load_state_dict(of_teacher["D"].state_dict())  # unconditional, and as wide
    batch = batches().at(0)
    terms = terms_of(taught, student, batch)
    fake, image = student["G"](batch["input"]), teacher(batch["input"]).detach()
    torch.testing.assert_close(terms["G_recon"], 5 * l1_loss(fake, image))
    torch.testing.assert_close(terms["G_gan"], -of_teacher["D"](fake).mean())
    torch.testing.assert_close(terms["D_real"], 0.5 * (1 - of_teacher["D"](batch["target"])).relu().mean())
    torch.testing.assert_close(terms["D_fake"], 0.5 * (1 + of_teacher["D"](fake)).relu().mean())
    assert set(terms) == {"G_recon", "G_gan", "D_real", "D_fake"}
    assert [update.name for update in taught.updates(student)] == ["D", "G"]
    assert not any(update.state for update in taught.updates(student))


def test_what_a_student_s_judge_takes_for_real_can_be_the_teacher_s_images():
    teacher = generator().eval()
    taught = small().as_student_task(teacher, real="teacher")
    nets = taught.nets(generator(2), 3, 3)
    batch = batches().at(0)
    real = nets["D"](teacher(batch["input"]))
    torch.testing.assert_close(terms_of(taught, nets, batch)["D_real"], 0.5 * (real - 1).square().mean())


def test_unpaired_data_have_no_truth_to_learn():
    with pytest.raises(ValueError, match="no true target .*: use target='teacher'"):
        small().as_student_task(nn.Identity(), target="truth")
