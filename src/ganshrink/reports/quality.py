"""Whether a student's pictures are any good, in words: rules over metrics.json. docs/concepts.md has them as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ganshrink.reports.files import dig, interval, number
from ganshrink.reports.words import figure, in_a_sentence

Grade = Literal["good", "doubtful", "bad"]

# What nobody has to learn, as metrics.json calls it and in words.
FLOORS = {
    "identity": "the untouched input",
    "mean": "the mean picture",
    "untrained": "an untrained network of its size",
}
# Which metric is asked first, by the beginning of its name; one of the user's own before all of them.
ORDER = ("miou", "kid", "fid", "kd_", "fd_", "swd_", "st_lpips", "perceptual", "ssim", "psnr")
ASIDE = ("flicker", "checkerboard")  # say nothing of what a picture is like: those of a grey wall are perfect
SIGMAS = 1.96  # a standard error is 95 % of cases by so many
GUESS = 0.05  # of what lies between floor and teacher: the error of a metric that does not tell its own
NEAR, HALF = 0.9, 0.5  # of the way from the floor to the teacher
ALIKE, ROUGHLY = 0.5, 0.2  # the same towards the teacher's own pictures, which nobody reaches


@dataclass(frozen=True, slots=True)
class Quality:
    """A grade, and what follows after `10x fewer MACs, and` or `but`."""

    grade: Grade
    text: str
    link: Literal["and", "but"] = "but"


@dataclass(frozen=True, slots=True)
class Score:
    """A value and what it may be off by, half of its 95 % interval; None where the metric does not tell."""

    value: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric of all networks. `sign` is -1 where lower is better; without a teacher's value it is one of agreement with
    the teacher's pictures."""

    name: str
    sign: int
    student: Score
    teacher: Score | None
    scratch: Score | None
    floors: Mapping[str, Score]
    weak: bool  # a Frechet distance of too few images

    def figure(self, one: Score, *, named: bool = False) -> str:
        """A value as a sentence has it, after the metric's name if asked."""
        name = f"{in_a_sentence(self.name)} " if named else ""
        return f"{name}{figure(self.name, one.value)}"

    def gain(self, a: Score, b: Score) -> float:
        return self.sign * (a.value - b.value)

    @property
    def floor(self) -> str:
        """The best of those that have learnt nothing."""
        return max(self.floors, key=lambda name: self.sign * self.floors[name].value)

    def beats(self, a: Score, b: Score) -> bool:
        """Whether one is better by more than both may be off."""
        if a.error is None or b.error is None:
            end = self.student if self.teacher is None else self.teacher
            return self.gain(a, b) > GUESS * abs(end.value - self.floors[self.floor].value)
        return self.gain(a, b) > math.hypot(a.error, b.error)

    @property
    def tells(self) -> bool:
        """Whether it knows the teacher from those that have learnt nothing."""
        return (
            self.teacher is not None
            and bool(self.floors)
            and self.beats(self.teacher, self.floors[self.floor])
        )

    def unbeaten(self) -> str | None:
        """The best floor that the student is no better than, if there is one."""
        left = {name: one for name, one in self.floors.items() if not self.beats(self.student, one)}
        return replace(self, floors=left).floor if left else None

    def share(self) -> float:
        """How far the student has come from the floor towards the teacher; distances count by their logarithms."""
        floor = self.floors[self.floor]
        if self.teacher is None:
            return 1 - self._distance(self.student) / max(self._distance(floor), 1e-12)
        values = [self.student.value, self.teacher.value, floor.value]
        if self.sign < 0:  # a distance may be zero or below as far as its error goes
            values = [
                max(v, one.error or 0)
                for v, one in zip(values, (self.student, self.teacher, floor), strict=True)
            ]
            if min(values) > 0:
                values = [-math.log(value) for value in values]
            else:
                values = [-value for value in values]
        student, teacher, lowest = values
        return (student - lowest) / (teacher - lowest) if teacher > lowest else 1.0

    def _distance(self, one: Score) -> float:
        """From the teacher's pictures: a root of mean squares for PSNR, 0 for equal ones."""
        if self.name.startswith("psnr"):
            return 10.0 ** (-one.value / 20)
        return 1 - one.value if self.name.startswith("ssim") else max(one.value, 0)


def quality(metrics: Mapping[str, Any]) -> Quality:
    """The verdict on a student's pictures.

    Args:
        metrics: as metrics.json has them.
    """
    readings = sorted(_readings(metrics), key=_rank)
    scored = [reading for reading in readings if reading.teacher is not None]
    telling = [reading for reading in scored if reading.tells]
    if telling:
        return _beside_teacher(telling)
    agreeing = [reading for reading in readings if reading.teacher is None and _has_ideal(reading)]
    blind = next((reading for reading in scored if reading.floors), None)
    why = "" if blind is None else f"its teacher is no better than {FLOORS[blind.floor]} ({_values(blind)})"
    if agreeing and agreeing[0].floors:
        found = _like_teacher([reading for reading in agreeing if reading.floors])
        if not why or found.grade == "bad":
            return found
        return Quality("doubtful", f"{why}; {found.text}")
    if why:
        return Quality("doubtful", why)
    if scored:  # a run of an earlier version
        return Quality(
            "doubtful", f"beside nothing learnt its quality was not measured: {_values(scored[0])}", "and"
        )
    return Quality("doubtful", "its quality not measured", "and")


def _beside_teacher(telling: Sequence[Reading]) -> Quality:
    """By the first metric that knows a teacher from nothing; any other of these may object."""
    lead = telling[0]
    assert lead.teacher is not None
    if floor := lead.unbeaten():
        return Quality("bad", f"no better than {FLOORS[floor]}: {_values(lead, floor)}")
    share = lead.share()
    grade: Grade = "good"
    if lead.beats(lead.student, lead.teacher):
        text = "better than its teacher"
    elif not lead.beats(lead.teacher, lead.student):
        text = "as good as its teacher"
    elif share >= NEAR:
        text = "nearly as good as its teacher"
    elif share >= HALF:
        grade, text = "doubtful", "worse than its teacher"
    else:
        grade, text = "bad", "far worse than its teacher"
    text = f"{text}: {_values(lead)}"
    said = [
        f"by {in_a_sentence(other.name)} no better than {FLOORS[floor]}"
        for other in telling[1:]
        if (floor := other.unbeaten())
    ]
    return _objected(Quality(grade, text), lead, said[:1])


def _like_teacher(agreeing: Sequence[Reading]) -> Quality:
    """By how far its pictures are from its teacher's: by the first metric; others may contradict it."""
    lead, *others = agreeing
    if floor := lead.unbeaten():
        text = f"no nearer to its teacher's pictures than {FLOORS[floor]}: {_values(lead, floor)}"
        for other in others:
            if not other.unbeaten():
                return Quality("doubtful", f"{text}; though nearer by {_values(other, other.floor)}")
        return Quality("bad", text)
    share, floor = lead.share(), lead.floor
    grade: Grade = "good" if share >= ALIKE else "doubtful" if share >= ROUGHLY else "bad"
    way = f"{100 * share:.0f} % of the way from {FLOORS[floor]} to its teacher's pictures"
    said = [
        f"by {in_a_sentence(other.name)} no nearer than {FLOORS[f]}"
        for other in others
        if (f := other.unbeaten())
    ]
    return _objected(Quality(grade, f"{way}: {_values(lead, floor)}"), lead, said[:1])


def _objected(found: Quality, lead: Reading, objections: Sequence[str]) -> Quality:
    """What was found, with what speaks against it: first of all the same size trained without a teacher."""
    grade: Grade = "doubtful" if objections and found.grade == "good" else found.grade
    link: Literal["and", "but"] = "and" if found.grade == "good" else "but"
    if lead.scratch is None or not lead.beats(lead.scratch, lead.student):
        return Quality(grade, "; ".join([found.text, *objections]), link)
    better = f"the same size without a teacher is better: {lead.figure(lead.scratch, named=True)}"
    if found.grade == "good":
        return Quality(
            "doubtful",
            "; ".join([f"{better}, its own {lead.figure(lead.student)}{_of_teacher(lead)}", *objections]),
        )
    return Quality(grade, "; ".join([found.text, better, *objections]))


def _values(reading: Reading, floor: str | None = None) -> str:
    """`likeness in structure (ssim) 0.478, its teacher's 0.483`."""
    said = [reading.figure(reading.student, named=True)]
    if floor is not None:
        said.append(f"{FLOORS[floor]} {reading.figure(reading.floors[floor])}")
    return ", ".join(said) + _of_teacher(reading)


def _of_teacher(reading: Reading) -> str:
    return "" if reading.teacher is None else f", its teacher's {reading.figure(reading.teacher)}"


def _has_ideal(reading: Reading) -> bool:
    return reading.sign < 0 or reading.name.startswith(("psnr", "ssim"))


def _rank(reading: Reading) -> tuple[bool, int]:
    place = next((n for n, name in enumerate(ORDER) if reading.name.startswith(name)), -1)
    return reading.weak, place


def _readings(metrics: Mapping[str, Any]) -> list[Reading]:
    student = dig(metrics, "student")
    found = []
    for name, entry in (student if isinstance(student, dict) else {}).items():
        of = {
            net: one
            for net in ("student", "teacher", "scratch", *FLOORS)
            if (one := _score(metrics, net, name))
        }
        better = dig(entry, "better")
        if "student" in of and name not in ASIDE and better in ("higher", "lower"):
            floors = {net: of[net] for net in FLOORS if net in of}
            weak = dig(entry, "protocol", "rank") == "rank-deficient"
            sign = 1 if better == "higher" else -1
            found.append(
                Reading(name, sign, of["student"], of.get("teacher"), of.get("scratch"), floors, weak)
            )
    return found


def _score(metrics: Mapping[str, Any], network: str, name: str) -> Score | None:
    value = number(metrics, network, name, "value")
    if value is None or not math.isfinite(value):
        return None
    protocol = dig(metrics, network, name, "protocol")
    if ends := interval(dig(metrics, network, name)):
        return Score(value, (ends[1] - ends[0]) / 2)
    for key in ("standard_error", "standard_deviation"):
        if (found := number(protocol, key)) is not None:
            return Score(value, SIGMAS * found)
    return Score(value, None)
