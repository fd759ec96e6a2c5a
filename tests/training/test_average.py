"""The average of a generator's weights: what it is, that it survives a kill, and that only what comes out is another."""

import copy

import pytest
import torch
from tests.training.tiny_training import Pairs, make_nets, make_updates, train

from ganshrink.training import Update
from ganshrink.training.average import WeightAverage
from ganshrink.training.stages import Stage
from ganshrink.training.tasks import TASKS
from ganshrink.training.train import Training, fit_nets


def averaged(directory, steps):
    nets, seen = make_nets(), []
    average = WeightAverage({"G": nets["G"]}, 0.9)
    watch = Update("see", [], lambda context: iter(()), after=lambda _: seen.append(copy.deepcopy(nets["G"])))
    train(nets, [*make_updates(nets), watch, average.update()], directory, max_steps=steps)
    return nets["G"], average, seen


@pytest.mark.slow
def test_it_is_the_average_that_is_written_down_and_survives_a_stop(tmp_path):
    network, average, seen = averaged(tmp_path / "whole", 12)
    wanted = [p.detach().double() for p in seen[0].parameters()]
    for step, later in list(enumerate(seen))[1:]:
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = [
            decay * w + (1 - decay) * p.double() for w, p in zip(wanted, later.parameters(), strict=True)
        ]
    last = copy.deepcopy(network)
    with average.in_place():
        for parameter, value in zip(network.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.double(), value, rtol=1e-5, atol=1e-6)
        assert torch.equal(network[1].running_mean, last[1].running_mean)
    assert all(map(torch.equal, network.parameters(), last.parameters()))
    averaged(tmp_path / "stopped", 5)
    _, again, _ = averaged(tmp_path / "stopped", 12)
    assert all(map(torch.equal, average.kept, again.kept))


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan"])
def test_it_is_handed_out_in_place_of_the_last_weights_and_changes_nothing_else(tmp_path, name):
    def trained(folder, **settings):
        torch.manual_seed(0)
        task = TASKS[name](TASKS[name].Config(ndf=4, d_layers=1))
        nets = task.nets(make_nets()["G"], 3, 3)
        how = Training(max_steps=3, accelerator="cpu", batch_size=2, **settings)
        fit_nets(Stage(tmp_path / folder, ""), nets, task, Pairs(), how, progress=False)
        return {net: [*network.parameters()] for net, network in nets.items()}

    plain, averages = trained("plain"), trained("average", ema=0.5)
    for net in plain:
        assert all(map(torch.equal, plain[net], averages[net])) == net.startswith("D")
    again = trained("average", ema=0.5)  # all steps are made: from the checkpoint
    assert all(
        map(
            torch.equal, [p for ps in averages.values() for p in ps], [p for ps in again.values() for p in ps]
        )
    )


def test_it_decides_a_stage_where_it_is_set_and_no_search():
    off, on = Training(), Training(ema=0.999)
    assert "ema" not in off.decisive() and on.decisive() == {**off.decisive(), "ema": 0.999}
    assert on.for_search().decisive() == off.decisive()
