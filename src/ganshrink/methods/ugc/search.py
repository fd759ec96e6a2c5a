"""Evolutionary architecture search (section 3.2): the student within its budget, and two teachers of about twenty times its
cost, one wider and one deeper. What the paper leaves open is as in GAN Compression (Li et al. 2020)."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ganshrink.data.held_out import TrainingImages
from ganshrink.data.images import num_inputs
from ganshrink.data.passes import remembered, spread_inputs
from ganshrink.methods.base import Job
from ganshrink.methods.ugc.config import SearchConfig, SupernetConfig
from ganshrink.metrics import MetricsConfig
from ganshrink.metrics.judge import HIGHER, Fitness, chosen, hashes_of, judge_of
from ganshrink.nets.extra_blocks import extra_sites
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.budget import readable
from ganshrink.pruning.cost import Convention
from ganshrink.pruning.extract import cut
from ganshrink.pruning.search.evolution import Evolution, evolve, within_budget
from ganshrink.pruning.search.known_scores import KnownScores
from ganshrink.pruning.search.space import Space, sites_of, space_of
from ganshrink.system.copies import in_evaluation
from ganshrink.system.distributed import is_main_process
from ganshrink.training.batch_norm import recalibrate
from ganshrink.training.devices import open_machine
from ganshrink.training.progress import ProgressDisplay

logger = logging.getLogger(__name__)

Widths = np.ndarray

TEACHERS = ("wide", "deep")
# Of the student's widths, tried in turn: the deep teacher is no wider than it has to be.
FACTORS = (1.5, 2, 3, 4, 8, 16, 32, 64)


class Search:
    """The searches of one trained supernet. Each is a function of its seed and of scores, which are kept in a file.

    Args:
        network: the trained supernet's whole network.
        fitness: by what subnets are compared (see `judgement`).
        file: where scores are kept.
    """

    def __init__(
        self, job: Job, config: SearchConfig, space: Space, channels: Channels, images: TrainingImages,
        network: nn.Module, fitness: Fitness, file: Path,
    ) -> None:  # fmt: skip
        self.job, self.config, self.space, self.channels = job, config, space, channels
        self.held, self.network, self.fitness = images.held, in_evaluation(network), fitness
        self.device = open_machine(job.training).fabric.device
        self.calibration = remembered(lambda: spread_inputs(images.unlabelled, config.calibration_images))
        self.judge = judge_of(
            fitness, job.metrics, remembered(images.held_batches), images.target_batches(),
            lambda: self.subnet(space.largest()), device=self.device,
        )  # fmt: skip
        self.searches: dict[str, dict[str, Any]] = {}  # the last of each name
        self.scores = KnownScores(self.score, file)

    def student(self, budget: Budget) -> Plan:
        """The best subnet that a budget allows.

        Raises:
            ValueError: if there is none.
        """
        widths = self.space.largest()
        if budget.limits:
            given = student_settings(self.config, self.job.training.seed)
            widths = self._evolved("student", within_budget(budget, self.space, self.channels, **given))
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
        told = {"fitness": self.fitness, "images": len(self.held), "convention": convention}
        return {**told, "networks": networks}

    def score(self, widths: Widths) -> float:
        """How good a subnet is."""
        return self.judge(self.subnet(widths))

    def subnet(self, widths: Widths) -> nn.Module:
        """A subnet as a network of its own, its batch norms counted anew."""
        network = cut(self.network, self.channels, self.space.plan(self.channels, widths))
        batches = (tuple(tensor.to(self.device) for tensor in inputs) for inputs in self.calibration())
        return recalibrate(in_evaluation(network).to(self.device), batches)

    def _evolved(self, name: str, evolution: Evolution) -> Widths:
        """The best member, with a progress display of networks scored."""
        size, sign = evolution.population, 1 if self.fitness in HIGHER else -1
        with ProgressDisplay(
            f"searching the {name}", done=0, total=size * evolution.generations,
            images_per_step=len(self.held), enabled=self.job.progress and is_main_process(),
        ) as display:  # fmt: skip

            def score(members: Sequence[Widths]) -> list[float]:
                begin = size * evolution.generation
                best = {str(self.fitness): sign * evolution.best_score} if evolution.generation else {}
                scores = self.scores.of(members, lambda count: display.step(begin + count, best))
                if len(members) < size:  # what the band does not hold
                    display.step(begin + size, best)
                return scores

            widths = evolve(evolution, score)
        self.searches[name] = {"scored": evolution.scored, "history": evolution.history}
        cost = self.channels.cost_at(widths)
        logger.info(
            "the %s: %s %.4g after %d networks, %s MACs, %s parameters", name, self.fitness,
            sign * evolution.best_score, evolution.scored, readable(cost.macs), readable(cost.params),
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
    widths = channels.widths(student)

    def cost(widths: Widths) -> float:
        return float(channels.cost_at(widths, convention).macs)

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


def student_settings(config: SearchConfig, seed: int) -> Any:
    """How the student's goes."""
    advice = "lower method.search.band, or raise method.supernet.steps"
    return {"band": config.band, "advice": advice, **settings_of(config, seed)}


def judgement(config: SearchConfig, metrics: MetricsConfig, images: TrainingImages) -> dict[str, Any]:
    """By what subnets are compared, and what else decides scores, for a stage's stamp.

    Raises:
        FileNotFoundError: if the weights of a network that judges are missing.
        ValueError: if these images are of the wrong kind for it, or too few.
    """
    labels = images.held.sample(0, None).get("labels")
    counts: Any = {"images": num_inputs(images.held), "targets": len(images.labelled)}
    fitness = chosen(config.fitness, metrics, labels=labels is not None, **counts)
    size = None if labels is None else list(labels.shape)  # which no fingerprint of images holds
    known = {"held": images.held.fingerprint(), "metrics": {"seed": metrics.seed, "labels": size}}
    return {"fitness": fitness, "judges": hashes_of(fitness, metrics), **known}


def searched_space(network: nn.Module, channels: Channels, config: SupernetConfig) -> Space:
    """S: the widths of every layer, and at every place where blocks were inserted how many of them run."""
    sites, round_to = sites_of(channels, extra_sites(network)), config.round_to or 1
    return space_of(channels, steps=config.steps, least=config.floor, round_to=round_to, sites=sites)
