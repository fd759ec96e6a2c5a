"""compare.json: rows of methods and budgets, what their differences allow to say, and what was left out and why."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any

from ganshrink.comparison.bootstrap import Interval, Sample, difference, interval, places, spread
from ganshrink.comparison.results import NO_SEARCH, Member, joined
from ganshrink.methods import BASELINES, REFERENCE, UNTAUGHT
from ganshrink.reports.files import Stage, dicts, number
from ganshrink.reports.page import verdict_of
from ganshrink.reports.verdict import RUNTIMES

Place = tuple[str, float]  # of a row: budget and share of labels


def tabulate(
    members: Sequence[Member],
    *,
    unfinished: Sequence[str] = (),
    rank_by: str | None = None,
    margin: float | None = None,
) -> dict[str, Any]:
    """The comparison of runs, JSON-ready.

    Args:
        members: the runs, those that failed included.
        unfinished: names of cells that have no result yet.
        rank_by: the metric that decides; none: the first that was measured.
        margin: how much worse than the teacher in it is as good; none: that is not said.

    Raises:
        ValueError: if no run has a result, or none has that metric.
    """
    done = [member for member in members if member.error is None]
    if not done:
        failed = next((f": {member.name}: {member.error}" for member in members), "")
        raise ValueError(f"no run has a result to compare{failed}")
    better = _better(done)
    if not better:
        raise ValueError(
            "these runs have no metrics in common to compare: score them by `ganshrink evaluate`"
        )
    rank_by = rank_by or next(iter(better))
    if rank_by not in better:
        raise ValueError(f"rank_by = {rank_by!r}, and the runs have {', '.join(better)}: choose one of these")
    comparison = _Comparison(done, better, rank_by, margin)
    return {
        "metrics": better,
        "rank_by": rank_by,
        "margin": margin,
        "reference": REFERENCE,
        "protocols": {name: comparison.first(name).protocol(name) for name in better},
        "teacher": comparison.teacher(),
        "floors": comparison.floors(),
        "rows": comparison.rows(),
        "gate": comparison.gate(),
        "ranking": comparison.ranking(),
        "left_out": comparison.left_out,
        "failed": [{"name": member.name, "error": member.error} for member in members if member.error],
        "unfinished": list(unfinished),
    }


class _Comparison:
    def __init__(
        self, done: Sequence[Member], better: Mapping[str, str], rank_by: str, margin: float | None
    ) -> None:
        self.done, self.better, self.rank_by, self.margin = done, better, rank_by, margin
        self.left_out = _left_out(done, better)
        self.groups: dict[Place, dict[str, list[Member]]] = {}
        for member in done:
            place = self.groups.setdefault((member.budget, member.label_fraction), {})
            place.setdefault(member.entry, []).append(member)
        self._teachers = {name: self.first(name).sample("teacher", name) for name in better}

    def first(self, metric: str) -> Member:
        """A run whose teacher and floors stand for all."""
        return next((m for m in self.done if not self.out(m, metric)), self.done[0])

    def out(self, member: Member, metric: str) -> bool:
        """Whether a run is left out of what is said of a metric."""
        reasons = self.left_out.get(member.name, {})
        return "all" in reasons or metric in reasons

    def sample(self, members: Iterable[Member], metric: str) -> Sample | None:
        """The students' values of an entry over its seeds."""
        found = [m.sample("student", metric) for m in members if not self.out(m, metric)]
        known = [sample for sample in found if sample is not None]
        return joined(known) if known else None

    def teacher(self) -> dict[str, Any]:
        member = self.first(self.rank_by)
        values = {name: _told(interval(s)) for name, s in self._teachers.items() if s is not None}
        return {"metrics": values, **_costs(member, "teacher")}

    def floors(self) -> dict[str, Any]:
        """What nobody has to learn."""
        found = {}
        for network in ("identity", "mean", "untrained"):
            values = {}
            for name in self.better:
                if (sample := self.first(name).sample(network, name)) is not None:
                    values[name] = _told(interval(sample))
            if values:
                found[network] = values
        return found

    def rows(self) -> list[dict[str, Any]]:
        found = []
        for (budget, fraction), entries in self.groups.items():
            for entry, members in entries.items():
                found.append(
                    {
                        "entry": entry,
                        "budget": budget,
                        "label_fraction": fraction,
                        "seeds": [member.seed for member in members],
                        **_costs(members[0], "student"),
                        "metrics": self._metrics(members),
                        "against_teacher": self._against(members, self._teachers),
                        "against_reference": self._against(members, self._reference(entries, entry)),
                        "said": self._said(members, entries, entry),
                        "cells": [_cell(member) for member in members],
                    }
                )
        return found

    def gate(self) -> list[dict[str, Any]]:
        """Whether the protocol can tell anything: by how much the teacher is better than that size from scratch. Where
        that is not known `passed` is null, and `reason` says why."""
        found = []
        for (budget, fraction), entries in self.groups.items():
            place = {"budget": budget, "label_fraction": fraction}
            alone = self.sample(entries.get(UNTAUGHT, ()), self.rank_by)
            teacher = self._teachers[self.rank_by]
            if alone is None or teacher is None:
                lacking = (
                    f"the teacher has no {self.rank_by}" if teacher is None else f"{UNTAUGHT} has no result"
                )
                found.append({**place, "passed": None, "reason": lacking})
                continue
            gap = difference(teacher, alone)
            seeds = len(alone.values)
            found.append({**place, **_told(gap), "passed": self._is_better(gap), "seeds": seeds})
        return found

    def ranking(self) -> list[dict[str, Any]]:
        """By budget and share of labels, entries from best to worst by the metric that decides; the tied together."""
        found = []
        higher = self.better[self.rank_by] == "higher"
        for (budget, fraction), entries in self.groups.items():
            samples = {entry: self.sample(members, self.rank_by) for entry, members in entries.items()}
            known = {entry: sample for entry, sample in samples.items() if sample is not None}
            found.append(
                {"budget": budget, "label_fraction": fraction, "places": places(known, higher=higher)}
            )
        return found

    def _metrics(self, members: Sequence[Member]) -> dict[str, Any]:
        found = {}
        for name in self.better:
            if (sample := self.sample(members, name)) is not None:
                values = sample.values.tolist()
                found[name] = _told(interval(sample)) | {"values": values, "spread": spread(values)}
        return found

    def _reference(self, entries: Mapping[str, Sequence[Member]], entry: str) -> dict[str, Sample | None]:
        members = () if entry == REFERENCE else entries.get(REFERENCE, ())
        return {name: self.sample(members, name) for name in self.better}

    def _against(self, members: Sequence[Member], others: Mapping[str, Sample | None]) -> dict[str, Any]:
        found = {}
        for name, other in others.items():
            sample = self.sample(members, name)
            if sample is not None and other is not None:
                found[name] = _told(difference(sample, other))
        return found

    def _is_better(self, gap: Interval) -> bool:
        return gap.low > 0 if self.better[self.rank_by] == "higher" else gap.high < 0

    def _said(
        self, members: Sequence[Member], entries: Mapping[str, Sequence[Member]], entry: str
    ) -> list[str]:
        """The sentences that the intervals allow, of the metric that decides. Of one seed an interval knows nothing of what
        another one would give, so that only pictures are spoken of."""
        sample, teacher = self.sample(members, self.rank_by), self._teachers[self.rank_by]
        reference = self._reference(entries, entry)[self.rank_by]
        said = []
        if sample is not None and teacher is not None and self.margin is not None:
            gap = difference(sample, teacher)
            loss = -gap.low if self.better[self.rank_by] == "higher" else gap.high
            if loss <= self.margin:
                one = "" if len(sample.values) > 1 else " on these pictures, one seed"
                said.append(f"as good as the teacher{one}")
        if sample is not None and reference is not None:
            gap = difference(sample, reference)
            one = "" if min(len(sample.values), len(reference.values)) > 1 else " on these pictures, one seed"
            worth = "" if one or entry in BASELINES else ": worth its cost here"
            if self._is_better(gap):
                said.append(f"better than the reference{one}{worth}")
            elif gap.excludes_zero:
                said.append(f"worse than the reference{one}")
        return said


def _left_out(done: Sequence[Member], better: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """By run and metric (or "all"), why it is not compared with the others."""
    found: dict[str, dict[str, str]] = {}
    teacher = _usual([member.teacher_key for member in done])
    usual = {name: _usual([member.protocol(name) for member in done]) for name in better}
    for member in done:
        reasons = {}
        alike = [
            m.trained() for m in done if m.label_fraction == member.label_fraction
        ]  # an epoch is as long
        mine, others = member.trained(), _usual([(each["student"], each["steps"]) for each in alike])
        if (mine["student"], mine["steps"]) != others:
            reasons["all"] = (
                f"its student saw {mine['student']} images in {mine['steps']} steps, the others {others[0]} in {others[1]}"
            )
        if member.teacher_key != teacher:
            reasons["all"] = "its teacher is another one"
        for metric in better:
            protocol = member.protocol(metric)
            if protocol != usual[metric]:
                reasons[metric] = f"measured otherwise: {_differing(protocol, usual[metric])}"
        if reasons:
            found[member.name] = reasons
    return found


def _usual(values: Sequence[Any]) -> Any:
    """The most common one; of several the first."""
    return max(values, key=values.count)


def _differing(mine: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    keys = [key for key in {**first, **mine} if first.get(key) != mine.get(key)]
    return ", ".join(f"{key} {mine.get(key)} instead of {first.get(key)}" for key in keys[:3])


def _better(done: Sequence[Member]) -> dict[str, str]:
    """The metrics that all students have, each with its better direction."""
    tables = [member.metrics.get("student", {}) for member in done]
    names = [name for name in tables[0] if all(name in table for table in tables)]
    return {name: str(tables[0][name]["better"]) for name in names}


def _costs(member: Member, network: str) -> dict[str, Any]:
    cost = member.run.get("cost.json")
    return {
        "macs": number(cost, network, "macs", "exact"),
        "params": number(cost, network, "params"),
        "bytes": number(cost, network, "bytes"),
        "memory": number(cost, network, "memory"),
        "ms": _milliseconds(member, network),
    }


def _milliseconds(member: Member, network: str) -> dict[str, Any] | None:
    """Its median time in the first runtime that it was timed in."""
    rows = dicts(member.run.get("latency.json"), "rows")
    for runtime in RUNTIMES:
        for row in rows:
            if (row.get("network"), row.get("runtime")) == (network, runtime):
                return {"runtime": runtime, "p50": row.get("p50_ms"), "threads": row.get("threads")}
    return None


def _cell(member: Member) -> dict[str, Any]:
    found = verdict_of(member.run)
    return {
        "name": member.name,
        "seed": member.seed,
        "folder": str(member.folder),
        "seconds": member.seconds,
        "images": member.trained(),
        "verdict": {"grade": found.grade, "sentence": found.sentence},
        "stages": [
            {"name": stage.name, "seconds": _seconds(stage)}
            for stage in member.run.stages
            if stage.name not in NO_SEARCH
        ],
    }


def _seconds(stage: Stage) -> float | None:
    """What a stage took: a training's log counts over all attempts, its record the last one alone."""
    logged = number(stage.events[-1], "time") if stage.events else None
    return logged if logged is not None else number(stage.done, "seconds")


def _told(found: Interval) -> dict[str, float | None]:
    """JSON-ready; null where an interval is not known."""
    low, high = (None if isnan(bound) else bound for bound in (found.low, found.high))
    return {"value": found.value, "low": low, "high": high}
