"""DMAD: a search that missed its budget is kept, and what goes on from it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_dmad as tiny

from ganshrink.methods.base import Job
from ganshrink.methods.dmad import dmad
from ganshrink.system.signals import Interrupted
from ganshrink.training.stages import Run
from telling import rest_exhaustive

SEARCH = {"lambda_spa": 0, "mask_lr": 1e-3}  # nothing draws the masks to 0, and about half of them are


def job(budget: str = "macs=10%", **training) -> Job:
    return tiny.job(tiny.small, budget=budget, **{"max_steps": 3} | training)


def steps(folder: Path) -> list[int]:
    return [line["step"] for line in tiny.logged(folder, "search")]


def refusal(folder: Path, work: Job, **search) -> str:
    with pytest.raises(ValueError) as error:
        dmad(Run(folder), work, tiny.settings(taps=tiny.SMALL_TAPS, search=SEARCH | search))
    return str(error.value)


@pytest.fixture(scope="module")
def missed(tmp_path_factory) -> tuple[Path, str]:
    """A run whose search missed its budget, and what it said."""
    folder = tmp_path_factory.mktemp("missed")
    return folder, refusal(folder, job())


def test_it_says_how_far_it_came_and_what_goes_on_from_it(missed):
    folder, message = missed
    assert message.startswith(
        "G: the masks' boundary reached 0 at step 3 of 3, and the channels left cost macs "
    )
    assert (
        "goes on with a larger budget, a larger student.max_steps, or method.search.if_missed = " in message
    )
    assert "\n" not in message
    assert refusal(folder, job()) == message  # at once, and no step is made
    assert steps(folder) == [1, 2, 3]


GOES_ON = {
    "a larger budget": ("macs=90%", {}, {}, [1, 2, 3]),
    "trimmed": ("macs=10%", {}, {"if_missed": "trim"}, [1, 2, 3]),
    "accepted": ("macs=10%", {}, {"if_missed": "accept"}, [1, 2, 3]),
    "more steps": ("macs=10%", {"max_steps": 5}, {"if_missed": "trim"}, [1, 2, 3, 4, 5]),
    "more of them, and a larger budget": ("macs=90%", {"max_steps": 5}, {}, [1, 2, 3, 4, 5]),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", rest_exhaustive(GOES_ON, "trimmed".__eq__))
def test_it_goes_on_from_the_search_that_is_there(missed, tmp_path, way):
    budget, training, search, wanted = GOES_ON[way]
    shutil.copytree(missed[0], tmp_path, dirs_exist_ok=True)
    work = job(budget, **training)
    result = dmad(Run(tmp_path), work, tiny.settings(taps=tiny.SMALL_TAPS, search=SEARCH | search))
    assert steps(tmp_path) == wanted
    assert {path.name for path in (tmp_path / "stages").iterdir()} == {"search", "distill"}
    cost, allowed = result.channels["G"].cost(result.plans["G"]).macs, work.budget.numbers()["macs"]
    assert (cost <= allowed) == (way != "accepted")


def test_more_steps_that_do_not_help_either_say_so_and_are_kept(missed, tmp_path):
    shutil.copytree(missed[0], tmp_path, dirs_exist_ok=True)
    assert "at step 4 of 4" in refusal(tmp_path, job(max_steps=4))
    assert "at step 5 of 5" in refusal(tmp_path, job(max_steps=5))
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


@pytest.mark.exhaustive
def test_what_draws_otherwise_begins_anew(missed, tmp_path):
    shutil.copytree(missed[0], tmp_path, dirs_exist_ok=True)
    dmad(
        Run(tmp_path),
        job("macs=90%"),
        tiny.settings(taps=tiny.SMALL_TAPS, search=SEARCH | {"lambda_spa": 0.5}),
    )
    assert len(list(tmp_path.glob("stages/search*"))) == 2


class Stopping:
    """Pictures that end the process, so to say, once so many of them were seen."""

    def __init__(self, images: Any, left: int) -> None:
        self.images, self.left = images, left

    def __getattr__(self, name: str) -> Any:
        return getattr(self.images, name)

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, index: int, rng: Any) -> dict[str, Any]:
        self.left -= 1
        if self.left < 0:
            raise Interrupted("stopped", 2)
        return self.images.sample(index, rng)


@pytest.mark.exhaustive
def test_killed_on_its_further_way_it_ends_as_without_that(tmp_path):
    """To the bit. The budget was missed before the training's end, and the rest of it is made."""
    ends = []
    for name in ("whole", "broken"):
        folder = tmp_path / name
        assert "at step 3 of 4" in refusal(folder, job(max_steps=4), boundary_end=0.75)
        work, config = job(max_steps=8, checkpoint_steps=1), {"boundary_end": 0.75, "if_missed": "trim"}
        settings = tiny.settings(taps=tiny.SMALL_TAPS, search=SEARCH | config)
        if name == "broken":
            with pytest.raises(Interrupted):
                dmad(Run(folder), replace(work, data=Stopping(work.data, 9)), settings)
        dmad(Run(folder), work, settings)
        ends.append(tiny.saved(folder, "search", "G"))
        assert steps(folder) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert tiny.same(*ends)
