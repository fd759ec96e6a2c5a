"""Stage 1 of UGC (Eqs. 1 and 5): the gradients of a step are those of three networks trained apart, on shared weights."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.losses import OnlineDistillationLoss
from ganshrink.methods.base import Job
from ganshrink.methods.ugc import UgcConfig
from ganshrink.methods.ugc.ugc import online_loss, sandwich
from ganshrink.pruning import Plan, extract
from ganshrink.pruning.search.supernet import Supernet
from ganshrink.training import Update
from ganshrink.training.stages import Stage
from ganshrink.training.train import Nets, fit_nets
from telling import rest_exhaustive

STRONG = {"lambda_tv": 0.01}  # so that no term hides behind another


@dataclass
class Trained:
    """A supernet, its sandwich, and the networks as they were before any step."""

    nets: Nets
    loss: OnlineDistillationLoss
    before: Nets
    whole: few.Whole
    work: Job
    config: UgcConfig
    seed: int

    def updates(self, of_task: list[Update]) -> list[Update]:
        given = self.nets["G"], self.whole.space, self.loss, self.config.supernet
        return sandwich(of_task, *given, seed=self.seed)

    def random(self, step: int) -> np.ndarray:
        return self.whole.space.random(np.random.default_rng([self.seed, step]))

    def plan(self, widths: np.ndarray) -> Plan:
        return self.whole.space.plan(self.whole.channels, widths)


@pytest.fixture(scope="module")
def work() -> Job:
    return few.job()


def ready(work: Job, *, seed: int = 5, **changes: Any) -> Trained:
    config = few.settings(**STRONG | changes)
    whole = few.whole(config)
    torch.manual_seed(4)
    judge = work.task.nets(whole.network, 3, 3)["D"]
    nets = {"G": Supernet(whole.network, whole.channels), "D": tiny.seasoned(judge)}
    before = copy.deepcopy({"G": whole.network, "D": judge})
    return Trained(nets, online_loss(config), before, whole, work, config, seed)


def fitted(trained: Trained, folder: Path, steps: int = 1, *, plainly: bool = False) -> None:
    """So many steps of stage 1, or of the task alone."""
    work, nets = trained.work, trained.nets
    updates = work.task.updates(nets)
    if not plainly:
        updates = trained.updates(updates)
    training = work.training.model_copy(update={"max_steps": steps})
    options = {"updates": updates, "unlabelled": work.unlabelled, "progress": False}
    fit_nets(Stage(folder, "key"), nets, work.task, work.data, training, **options)


def losses(trained: Trained, step: int) -> list[dict[str, Tensor]]:
    """What the generator's update yields in a step, of networks as they are; and gradients of it all."""
    work, batch = trained.work, few.batch_at(trained.work, step)
    for network in trained.nets.values():
        network.train().zero_grad()
    [update] = [u for u in trained.updates(work.task.updates(trained.nets)) if u.name == "G"]
    found = []
    for terms in update.losses(work.task.forward(trained.nets)(batch, step, 0)):
        sum(terms.values()).backward()
        found.append(terms)
    return found


def taught(trained: Trained, plan: Plan, image: Tensor) -> tuple[dict[str, float], dict[str, Tensor]]:
    """L_OD of a static copy of a subnet against the whole network's image, and the gradients that it brings the shared
    weights."""
    whole, start = trained.whole, trained.before["G"]
    small = extract(start, whole.channels, plan).train()
    with torch.no_grad():
        wanted = copy.deepcopy(start).train()(image)
    made = small(image)
    terms = {"ssim": few.l_od(made, wanted).mean(), "tv": trained.config.lambda_tv * few.variation(made)}
    sum(terms.values()).backward()
    shared = {}
    for name, parameter in small.named_parameters():
        kept = [
            torch.arange(length) if atoms is None else torch.nonzero(_alive(plan, atoms)).flatten()
            for length, atoms in zip(
                start.get_parameter(name).shape,
                whole.channels.axes.get(name) or [None] * parameter.ndim,
                strict=True,
            )
        ]
        shared[name] = torch.zeros_like(start.get_parameter(name))
        shared[name][torch.meshgrid(*kept, indexing="ij")] = parameter.grad
    return {name: float(loss.detach()) for name, loss in terms.items()}, shared


def _alive(plan: Plan, atoms: Any) -> Tensor:
    return torch.tensor([atom < 0 or bool(plan.keep[atom]) for atom in atoms.tolist()])


def of_task(trained: Trained, judge: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """The gradients of Eq. 4's generator loss, given the judge of the moment."""
    network = copy.deepcopy(trained.before["G"]).train()
    made = network(batch["input"])
    scores = judge.train()(torch.cat([batch["input"], made], 1))
    (100 * l1_loss(made, batch["target"]) - scores.mean()).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    rest_exhaustive(
        [{}, {"subnet_weight": 3.0}, {"supernet": few.LABELLED_ALONE}], lambda changes: not changes
    ),
    ids=str,
)
def test_a_step_s_gradients_are_those_of_three_networks_trained_apart(work, tmp_path, changes):
    """And one step of Adam is made of them."""
    trained = ready(work, **changes)
    fitted(trained, tmp_path)
    batch = few.batch_at(work, 0)
    image = batch["unlabelled" if trained.config.supernet.unlabelled else "input"]
    expected = of_task(trained, copy.deepcopy(trained.nets["D"]), batch)
    for widths in (trained.random(0), trained.whole.space.smallest()):
        _, shared = taught(trained, trained.plan(widths), image)
        for name, gradient in shared.items():
            expected[name] = expected[name] + trained.config.supernet.subnet_weight * gradient
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, parameter in trained.whole.network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5 * largest)
        step = 2e-3 * parameter.grad / (parameter.grad.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), trained.before["G"].get_parameter(name) - step)


def test_the_smallest_and_the_random_subnet_differ_from_the_whole_and_from_step_to_step(work):
    """Else the test above would say little."""
    trained = ready(work)
    space, drawn = trained.whole.space, [trained.random(step) for step in range(20)]
    assert all(widths in space for widths in drawn)
    assert len({tuple(widths) for widths in [*drawn, space.smallest(), space.largest()]}) > 18
    assert {tuple(space.depths(widths)) for widths in drawn} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_random_subnet_depends_on_seed_and_step_alone(work):
    first, second, other = ready(work), ready(work), ready(work, seed=6)
    wanted = [first.random(step).tolist() for step in range(5)]
    torch.manual_seed(1), np.random.seed(1)
    assert [second.random(step).tolist() for step in (4, 3, 2, 1, 0)] == wanted[::-1]
    assert [other.random(step).tolist() for step in range(5)] != wanted


@pytest.mark.parametrize("step", [0, 7])
def test_the_subnets_of_a_step_learn_the_images_that_the_whole_network_makes(work, step):
    trained = ready(work)
    image, found = few.batch_at(work, step)["unlabelled"], losses(trained, step)
    assert [set(terms) for terms in found] == [
        {"G_gan", "G_recon"}, {"random_ssim", "random_tv"}, {"smallest_ssim", "smallest_tv"}
    ]  # fmt: skip
    members = {"random": trained.random(step), "smallest": trained.whole.space.smallest()}
    for terms, (name, widths) in zip(found[1:], members.items(), strict=True):
        expected, _ = taught(trained, trained.plan(widths), image)
        got = {term: float(loss.detach()) for term, loss in terms.items()}
        assert got == pytest.approx({f"{name}_{term}": loss for term, loss in expected.items()}, rel=1e-4)


def test_no_subnet_s_loss_teaches_the_judge_or_a_block_that_does_not_run(work):
    trained = ready(work)
    batch, network = few.batch_at(work, 0), trained.whole.network
    [update] = [u for u in trained.updates(work.task.updates(trained.nets)) if u.name == "G"]
    for terms in update.losses(work.task.forward(trained.nets)(batch, 0, 0)):
        if "smallest_ssim" in terms:
            sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in trained.nets["D"].parameters())
    taught = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert taught == {name for name, _ in network.named_parameters() if "_extra" not in name}


@pytest.mark.exhaustive
def test_the_judge_learns_as_without_the_subnets_and_statistics_are_the_whole_network_s(work, tmp_path):
    with_subnets, alone = ready(work), ready(work)
    fitted(with_subnets, tmp_path / "with")
    fitted(alone, tmp_path / "alone", plainly=True)
    ours, theirs = (trained.nets["D"].state_dict() for trained in (with_subnets, alone))
    assert tiny.same(ours, theirs)
    moved = with_subnets.whole.network.state_dict(), alone.whole.network.state_dict()
    assert not torch.equal(*(state["0.weight"] for state in moved))
    # the whole network ran once more, on the unlabelled inputs; no subnet counts
    counted = [int(state["1.num_batches_tracked"]) for state in moved]
    assert counted[0] == counted[1] + 1


@pytest.mark.exhaustive
@pytest.mark.slow
def test_style_and_features_teach_where_they_weigh_something(work, tmp_path):
    """Through a VGG with weights of chance."""
    file = few.vgg(tmp_path)
    trained = ready(work, lambda_style=None, lambda_feature=None, vgg=file, lambda_ssim=0, lambda_tv=0)
    found = losses(trained, 0)
    lesson, image = trained.loss, few.batch_at(work, 0)["unlabelled"]
    assert lesson.network is not None and (lesson.weights.style, lesson.weights.feature) == (500, 2)
    start, whole = trained.before["G"], trained.whole
    small = extract(start, whole.channels, trained.plan(whole.space.smallest())).train()
    with torch.no_grad():
        ours, theirs = lesson.network(small(image)), lesson.network(copy.deepcopy(start).train()(image))
    feature = 2 * l1_loss(ours["relu2_2"], theirs["relu2_2"])
    style = sum(500 * l1_loss(few.gram(ours[name]), few.gram(theirs[name])) for name in ours)
    wanted = {"smallest_style": float(style), "smallest_feature": float(feature)}
    assert {name: float(loss.detach()) for name, loss in found[2].items()} == pytest.approx(wanted, rel=1e-3)
    assert all(parameter.grad is None for parameter in lesson.network.parameters())
