"""A step of widths that is too coarse is halved, and a budget is measured before anything is trained."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ganshrink.graph import trace
from ganshrink.latency.plan_by_timing import TooSlow
from ganshrink.methods.base import Job
from ganshrink.methods.cat import CatConfig
from ganshrink.methods.uniform import UniformConfig
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.budget import Limit
from ganshrink.training.stages import Run
from ganshrink.workflow.device_budget import step_of, with_finer_steps


@pytest.mark.parametrize("config", [CatConfig, UniformConfig])
def test_half_of_the_step_until_one_does(config) -> None:
    """The settings may stand in a table; what is made by the first step that does is the answer."""
    tried: list[int] = []

    def make(settings) -> str:
        tried.append(step_of(settings))
        if tried[-1] > 4:
            raise ValueError("the budget latency=5ms cannot be met: the fastest network takes 6 ms")
        return "made"

    asked = config()
    sixteen = config(**({"round_to": 16} if config is UniformConfig else {"search": {"round_to": 16}}))
    assert with_finer_steps([asked], sixteen, make) == "made" and tried == [16, 8, 4]
    tried.clear()
    with pytest.raises(ValueError, match=r"cannot be met.*lower method\..*round_to \(now 16\)"):
        with_finer_steps([sixteen], sixteen, make)  # a step by hand is meant
    with pytest.raises(ValueError, match="cannot be met"):
        with_finer_steps([asked, sixteen], sixteen, make)  # in either direction
    assert tried == [16, 16]


def test_whatever_else_fails_is_no_matter_of_steps() -> None:
    tried: list[int] = []

    def never(settings) -> None:
        tried.append(step_of(settings))
        raise ValueError("cannot be met" if len(tried) < 9 else "never")

    eight = UniformConfig(round_to=8)
    with pytest.raises(ValueError, match="cannot be met"):
        with_finer_steps([UniformConfig()], eight, never)
    assert tried == [8, 4, 2, 1]

    def broken(settings) -> None:
        tried.append(0)
        raise ValueError("the data are no pairs")

    with pytest.raises(ValueError, match="no pairs"):
        with_finer_steps([UniformConfig()], eight, broken)
    assert tried.count(0) == 1


class Watch:
    """A made-up device: a millisecond for each channel of the first layer, as its profile says, and some besides."""

    def __init__(self, besides: float) -> None:
        self.besides, self.measured = besides, 0
        self.profile = SimpleNamespace(original=64 + besides)

    def look(self, network: nn.Module, channels: Channels, plan: Plan) -> tuple[float, float, float]:
        self.measured += 1
        time = times(channels, channels.widths(plan)) + self.besides
        return time, time, time

    def __call__(self, *given) -> float:
        return self.look(*given)[0]


def times(channels: Channels, widths) -> float:
    return float(widths[0])


def test_a_budget_must_be_kept_as_measured_before_anything_is_trained() -> None:
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 3, 3)).eval()
    channels = trace(net, torch.zeros(1, 3, 8, 8))
    scores = torch.zeros(channels.num_atoms)

    def reach(step: int, *, limit: float, besides: float) -> int:
        """How many plans were measured until one kept the limit."""
        watch = Watch(besides)
        budget = Budget((Limit("latency", limit, device="cpu", times=times),))
        original = SimpleNamespace(network=net, channels=channels)
        job = Job(original, dict, None, None, budget, None, stopwatch=watch)
        job.check_reachable(lambda aimed: bisect_threshold(channels, scores, aimed, round_to=step))
        return watch.measured

    assert reach(16, limit=40, besides=0) == 1
    assert reach(16, limit=40, besides=10) == 2  # the first one that keeps it is enough
    with pytest.raises(TooSlow, match="cannot be met: the fastest network takes 26 ms"):
        reach(16, limit=20, besides=10)  # by the profile it would take 16
    assert reach(8, limit=20, besides=10)


def test_stages_of_settings_that_led_nowhere_are_forgotten(tmp_path) -> None:
    """What is made after them is stamped as if they had not been; on disk they stay."""
    keys = []
    for number, names in enumerate((["teacher"], ["teacher", "wrong"])):
        run = Run(tmp_path / str(number))
        for name in names:
            run.stage(name, lambda stage: {"x": 1}, made_from={})
        run.forget_all_but(["teacher"])
        run.stage("search", lambda stage: {"x": 2}, made_from={})
        keys.append([(stage["name"], stage["key"]) for stage in run.stages()])
    assert keys[0] == keys[1] and [name for name, _ in keys[0]] == ["teacher", "search"]
    assert (tmp_path / "1/stages/wrong/done.json").is_file()
