"""Evolutionary architecture search (section 3.2): the student within its budget, and two teachers of about twenty times its
cost, one wider and one deeper."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ganshrink.methods.base import Job
from ganshrink.methods.ugc.config import UgcConfig
from ganshrink.methods.ugc.fitness import chosen, inputs_of, judge_of, remembered
from ganshrink.methods.ugc.images import TrainingImages
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.allocate import cannot_be_met
from ganshrink.pruning.budget import readable, spending
from ganshrink.pruning.extract import cut
from ganshrink.pruning.search.evolution import Evolution, evolve
from ganshrink.pruning.search.space import Space
from ganshrink.system.atomic import write_json
from ganshrink.system.distributed import broadcast, is_main_process, rank_and_world, spread
from ganshrink.training.batch_norm import recalibrate
from ganshrink.training.devices import open_machine
from ganshrink.training.progress import ProgressDisplay

logger = logging.getLogger(__name__)

Widths = np.ndarray
# Of the student's widths, tried in turn: the deep teacher is no wider than it has to be.
FACTORS = (1.5, 2, 3, 4, 8, 16, 32, 64)


class Search:
    """Searches of one trained supernet.

    Scores are kept in a file as they come, so that a search that was stopped goes on where it was: a search is a function
    of its seed and of scores.

    Args:
        network: the trained supernet's whole network.
        file: where scores are kept.
    """

    def __init__(
        self,
        job: Job,
        config: UgcConfig,
        space: Space,
        channels: Channels,
        images: TrainingImages,
        network: nn.Module,
        file: Path,
    ) -> None:
        self.job, self.config, self.space, self.channels = job, config, space, channels
        self.images, self.network, self.file = images, network.eval(), file
        assert images.held is not None
        self.held = images.held
        self.device = open_machine(job.training).fabric.device
        self.calibration = remembered(lambda: inputs_of(images.unlabelled, config.calibration_images))
        fitness = chosen(config.fitness, job.metrics, self.held)
        largest = self._subnet(space.largest()) if fitness == "agreement" else None
        self.judge = judge_of(fitness, job.metrics, self.held, images.labelled, largest, self.device)
        self.searches: dict[str, dict[str, Any]] = {}  # the last of each name
        self.scores: dict[str, float] = broadcast(_known(file) if is_main_process() else {})

    def student(self, budget: Budget) -> Plan:
        """The best subnet that a budget allows.

        Raises:
            ValueError: if there is none.
        """
        if not budget.limits:
            return self.space.plan(self.channels, self.space.largest())
        found = self._evolved(
            "student", within(budget, self.space, self.channels, self.config, self.job.training.seed)
        )
        return self.space.plan(self.channels, found)

    def teachers(self, student: Plan) -> dict[str, Plan]:
        """The wider and the deeper teacher of a student."""
        found = {}
        for name, evolution in teachers_of(
            student, self.space, self.channels, self.config, self.job.training.seed
        ).items():
            widths = evolution if isinstance(evolution, np.ndarray) else self._evolved(name, evolution)
            found[name] = self.space.plan(self.channels, widths)
        return found

    def report(self, plans: Mapping[str, Plan]) -> dict[str, Any]:
        """What was found, JSON-ready: per network its cost and score, and of searches the best score by generation."""
        widths = {name: self.channels.widths(plan) for name, plan in plans.items()}
        costs = {name: self.channels.cost_at(found) for name, found in widths.items()}
        networks = {
            name: {
                "macs": costs[name].macs,
                "params": costs[name].params,
                "of_student": costs[name].macs / costs["student"].macs,
                "depths": self.space.depths(found).tolist(),
                "score": self.scores.get(_key(found)),
                **self.searches.get(name, {}),
            }
            for name, found in widths.items()
        }
        return {"fitness": self.judge.name, "images": len(self.held), "networks": networks}

    def score(self, widths: Widths) -> float:
        """How good a subnet is."""
        return self.judge(self._subnet(widths))

    def _subnet(self, widths: Widths) -> nn.Module:
        """A network of its own, its batch norms counted anew."""
        network = (
            cut(self.network, self.channels, self.space.plan(self.channels, widths)).eval().to(self.device)
        )
        batches = (tuple(tensor.to(self.device) for tensor in inputs) for inputs in self.calibration())
        return recalibrate(network, batches)

    def _evolved(self, name: str, evolution: Evolution) -> Widths:
        """The best member, with a progress display of networks scored."""
        size = evolution.population
        with ProgressDisplay(
            f"searching the {name}", done=0, total=size * evolution.generations,
            images_per_step=len(self.held), enabled=self.job.progress and is_main_process(),
        ) as display:  # fmt: skip

            def score(members: Sequence[Widths]) -> list[float]:
                begin = size * evolution.generation
                best: dict[str, float] = {}
                if evolution.generation:
                    best[self.judge.name] = self.judge.natural(evolution.best_score)
                world = rank_and_world()[1]
                for start in range(0, len(members), world):
                    self._score_new(members[start : start + world])
                    display.step(begin + start + 1, best)
                if len(members) < size:  # what the band does not hold
                    display.step(begin + size, best)
                return [self.scores[_key(widths)] for widths in members]

            widths = evolve(evolution, score)
        self.searches[name] = {"scored": evolution.scored, "history": evolution.history}
        cost = self.channels.cost_at(widths)
        logger.info(
            "the %s: %s %.4g after %d networks, %s MACs, %s parameters", name, self.judge.name,
            self.judge.natural(evolution.best_score), evolution.scored, readable(cost.macs), readable(cost.params),
        )  # fmt: skip
        return widths

    def _score_new(self, members: Sequence[Widths]) -> None:
        new = [widths for widths in members if _key(widths) not in self.scores]
        if not new:
            return
        for widths, score in zip(new, spread(self.score, new), strict=True):
            self.scores[_key(widths)] = score
        if is_main_process():
            write_json(self.file, {key: score for key, score in self.scores.items() if math.isfinite(score)})


def within(budget: Budget, space: Space, channels: Channels, config: UgcConfig, seed: int) -> Evolution:
    """The search of a student: subnets that cost between `config.band` and all of a budget.

    Raises:
        ValueError: if there is none, with the nearest costs.
    """

    def share(widths: Widths) -> float:
        return max(spending(channels, widths, limit) / limit.amount for limit in budget.limits)

    def write(share: float) -> str:
        if len(budget.limits) > 1:
            return f"{100 * share:.4g} % of it"
        [limit] = budget.limits
        return f"{limit.kind}={limit.write(round(share * limit.amount, 3))}"

    smallest = space.smallest()
    if share(smallest) > 1:
        raise ValueError(cannot_be_met(channels, budget, smallest))
    low = min(config.band, share(space.largest()))  # a budget above the largest network keeps all of it
    try:
        return _evolution(space, share, (low, 1.0), config, seed, write=write)
    except ValueError as error:
        raise ValueError(
            f"the budget {budget} cannot be met: {error}; lower method.band, or raise method.steps"
        ) from None


def teachers_of(
    student: Plan, space: Space, channels: Channels, config: UgcConfig, seed: int
) -> dict[str, "Evolution | Widths"]:
    """The searches of both teachers; widths where nothing is to be searched, since no network is in the band: the nearest.

    The wide one has none of the inserted blocks, the deep one all of them and hardly more channels than the student.
    """
    widths = channels.widths(student)
    macs = channels.cost_at(widths).macs
    band = tuple(config.teacher_ratio * macs * (1 + side * config.teacher_tolerance) for side in (-1, 1))

    def cost(widths: Widths) -> float:
        return float(channels.cost_at(widths).macs)

    spaces = {
        "wide": [space.shallow()],
        "deep": [space.deep().narrower(widths, factor) for factor in FACTORS],
    }
    found: dict[str, Evolution | Widths] = {}
    for name, tried in spaces.items():
        for candidate in tried:
            if cost(candidate.largest()) >= config.teacher_ratio * macs:
                break
        try:
            found[name] = _evolution(candidate, cost, (band[0], band[1]), config, seed, write=readable)
        except ValueError:
            ends = [candidate.smallest(), candidate.largest()]
            nearest = min(ends, key=lambda end: abs(np.log(cost(end) / (config.teacher_ratio * macs))))
            logger.warning(
                "no %s teacher has %g times the student's MACs (+- %g %%): the nearest, %.3g times, is taken", name,
                config.teacher_ratio, 100 * config.teacher_tolerance, cost(nearest) / macs,
            )  # fmt: skip
            found[name] = nearest
    return found


def _evolution(
    space: Space,
    cost: Callable[[Widths], float],
    band: tuple[float, float],
    config: UgcConfig,
    seed: int,
    *,
    write: Callable[[float], str],
) -> Evolution:
    return Evolution(
        space, cost, band, population=config.population, generations=config.generations, parents=config.parents,
        rate=config.mutation, seed=seed, write=write,
    )  # fmt: skip


def _key(widths: Widths) -> str:
    return ",".join(map(str, widths.tolist()))


def _known(file: Path) -> dict[str, float]:
    """Scores of an earlier attempt at this stage; they are of its supernet and settings alone, as its folder is."""
    try:
        found = json.loads(file.read_text(encoding="utf-8")).items()
        return {key: float(score) for key, score in found if math.isfinite(score)}
    except FileNotFoundError:
        return {}
    except (AttributeError, TypeError, ValueError):
        logger.warning("%s is damaged: networks are scored again", file)
        return {}
