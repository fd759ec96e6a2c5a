"""Evolutionary architecture search (section 3.2): the student within its budget, and two teachers of about twenty times its
cost, one wider and one deeper. What the paper leaves open is as in GAN Compression (Li et al. 2020)."""

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ganshrink.methods.base import Job
from ganshrink.methods.ugc.config import SearchConfig, SupernetConfig
from ganshrink.metrics.judge import HIGHER
from ganshrink.nets.extra_blocks import extra_sites
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.budget import readable
from ganshrink.pruning.cost import Convention
from ganshrink.pruning.search.evolution import Evolution, within_budget
from ganshrink.pruning.search.known_scores import KnownScores
from ganshrink.pruning.search.space import Space, sites_of, space_of
from ganshrink.system.distributed import is_main_process
from ganshrink.training.progress import ProgressDisplay
from ganshrink.training.subnets import SubnetScores

logger = logging.getLogger(__name__)

Widths = np.ndarray

TEACHERS = ("wide", "deep")
# Of the student's widths, tried in turn: the deep teacher is no wider than it has to be.
FACTORS = (1.5, 2, 3, 4, 8, 16, 32, 64)


class Search:
    """The searches of one trained supernet. Each is a function of its seed and of scores, which are kept in a file."""

    def __init__(self, job: Job, config: SearchConfig, subnets: SubnetScores, file: Path) -> None:
        self.job, self.config, self.subnets = job, config, subnets
        self.space, self.channels = subnets.space, subnets.channels
        self.sign = 1 if subnets.fitness in HIGHER else -1  # of scores, to be the metric's values
        self.searches: dict[str, dict[str, Any]] = {}  # the last of each name
        self.scores = KnownScores(self.score, file)

    def student(self, budget: Budget) -> Plan:
        """The best subnet that a budget allows.

        Raises:
            ValueError: if there is none.
        """
        widths = self.space.largest()
        if budget.limits:
            given = self.space, self.channels, self.config, self.job.training.seed
            widths = self._evolved("student", student_search(budget, *given))
        return self.space.plan(self.channels, widths)

    def teachers(self, student: Plan) -> dict[str, Plan]:
        """The wider and, where blocks were inserted, the deeper teacher of a student."""
        given = student, self.space, self.channels, self.config, self.job.training.seed
        searches = teachers_of(*given, convention=self.job.budget.convention)
        found = {
            name: self._evolved(name, search) if isinstance(search, Evolution) else search
            for name, search in searches.items()
        }
        return {name: self.space.plan(self.channels, widths) for name, widths in found.items()}

    def report(self, plans: Mapping[str, Plan]) -> dict[str, Any]:
        """What was found, JSON-ready: per network its cost and score, and of searches the best score by generation."""
        networks: dict[str, Any] = {}
        convention = self.job.budget.convention
        counted = {name: self.channels.cost(plan, convention).macs for name, plan in plans.items()}
        for name, plan in plans.items():
            widths, cost = self.channels.widths(plan), self.channels.cost(plan)
            networks[name] = {
                "macs": cost.macs,
                "params": cost.params,
                "of_student": counted[name] / counted["student"],
                "depths": self.space.depths(widths).tolist(),
                "score": self.scores.get(widths),
                **self.searches.get(name, {}),
            }
        told = {"fitness": self.subnets.fitness, "images": self.subnets.images, "convention": convention}
        return {**told, "networks": networks}

    def score(self, widths: Widths) -> float:
        """How good a subnet is."""
        return self.subnets(widths)

    def _evolved(self, name: str, evolution: Evolution) -> Widths:
        """The best member, with a progress display of networks scored."""
        fitness, total = str(self.subnets.fitness), evolution.population * evolution.generations
        shown: Any = {"total": total, "enabled": self.job.progress and is_main_process()}
        shown["images_per_step"] = self.subnets.images
        with ProgressDisplay(f"searching the {name}", done=0, **shown) as display:

            def watch(done: int) -> None:
                best = {fitness: self.sign * evolution.best_score} if evolution.generation else {}
                display.step(done, best)

            widths = self.scores.best(evolution, watch)
        self.searches[name] = {"scored": evolution.scored, "history": evolution.history}
        cost = self.channels.cost_at(widths)
        logger.info(
            "the %s: %s %.4g after %d networks, %s MACs, %s parameters", name, fitness,
            self.sign * evolution.best_score, evolution.scored, readable(cost.macs), readable(cost.params),
        )  # fmt: skip
        return widths


def teachers_of(
    student: Plan, space: Space, channels: Channels, config: SearchConfig, seed: int, *,
    convention: Convention = "exact",
) -> dict[str, Evolution | Widths]:  # fmt: skip
    """The searches of both teachers; widths where nothing is to be searched, since no network is in the band: the nearest.

    The wide one has none of the inserted blocks, the deep one all of them and hardly more channels than the student. Where
    there are no such blocks it would be a second wide one, and is left out.

    Args:
        convention: in which MACs are compared.
    """
    widths, cost = channels.widths(student), partial(channels.macs_at, convention=convention)
    macs = cost(widths)
    wanted, off = config.teacher_ratio * macs, config.teacher_tolerance
    spaces: dict[str, Iterable[Space]] = {"wide": [space.shallow()]}
    if space.sites:
        spaces["deep"] = (space.deep().narrower(widths, factor) for factor in FACTORS)
    found: dict[str, Evolution | Widths] = {}
    for name, candidates in spaces.items():
        for candidate in candidates:
            if cost(candidate.largest()) >= wanted:
                break
        try:
            band = wanted * (1 - off), wanted * (1 + off)
            found[name] = Evolution(candidate, cost, band, write=readable, **settings_of(config, seed))
        except ValueError:
            ends = [candidate.smallest(), candidate.largest()]
            nearest = min(ends, key=lambda end: abs(np.log(cost(end) / wanted)))
            logger.warning(
                "no %s teacher has %g times the student's MACs (+- %g %%): the nearest, %.3g times, is taken",
                name, config.teacher_ratio, 100 * off, cost(nearest) / macs,
            )  # fmt: skip
            found[name] = nearest
    return found


def settings_of(config: SearchConfig, seed: int) -> Any:
    """How an evolution goes."""
    sizes = {"population": config.population, "generations": config.generations}
    return {**sizes, "parents": config.parents, "rate": config.mutation, "seed": seed}


def student_search(
    budget: Budget, space: Space, channels: Channels, config: SearchConfig, seed: int
) -> Evolution:
    """The search of the student.

    Raises:
        ValueError: if there is no subnet between `band` and all of the budget.
    """
    advice = "lower method.search.band, or raise method.supernet.steps"
    how = {"band": config.band, "advice": advice, **settings_of(config, seed)}
    return within_budget(budget, space, channels, **how)


def searched_space(network: nn.Module, channels: Channels, config: SupernetConfig) -> Space:
    """S: the widths of every layer, and at every place where blocks were inserted how many of them run."""
    sites, round_to = sites_of(channels, extra_sites(network)), config.round_to or 1
    return space_of(channels, steps=config.steps, least=config.floor, round_to=round_to, sites=sites)
