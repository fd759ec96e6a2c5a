"""A student cut out of another network than its teacher: the budget, what is compared, what is delivered."""

import json
from dataclasses import replace

import pytest
import torch
from test_uniform import SIZE, job, original

from ganshrink import nets
from ganshrink.methods.original import Original
from ganshrink.methods.uniform import UniformConfig, tap_pairs, uniform
from ganshrink.nets.branches import has_branches
from ganshrink.training.stages import Run
from ganshrink.training.taps import taps_of_sizes

EXAMPLE = (torch.zeros(1, 3, SIZE, SIZE),)


def other(name: str = "devicenet", **options) -> Original:
    options = options or {"ngf": 8, "blocks": 3}
    return Original(lambda: nets.build(name, **options), EXAMPLE, {}, net={"name": name, **options})


def test_a_student_of_its_own_keeps_a_share_of_the_teacher_s_cost_and_is_delivered_plain(tmp_path):
    work = replace(job(budget="macs=20%", log_every=1), student_net=other())
    result = uniform(Run(tmp_path), work, UniformConfig())
    student, plan, channels = result.students["G"], result.plans["G"], result.channels["G"]
    assert type(student) is type(work.student_net.network) and not has_branches(student)
    assert channels.cost(plan).macs <= original().channels.cost().macs / 5 < channels.cost().macs
    assert student(EXAMPLE[0]).shape == EXAMPLE[0].shape
    assert '"G_dist"' in (tmp_path / "stages/narrow/events.jsonl").read_text()
    [section] = result.sections["G"]
    told = json.dumps(section.to_json())
    assert "The student is devicenet" in told and "the teacher, ResNet" in told
    again = uniform(Run(tmp_path), work, UniformConfig()).students["G"]
    assert all(map(torch.equal, student.state_dict().values(), again.state_dict().values()))
    assert len([*(tmp_path / "stages").iterdir()]) == 1


def test_features_are_compared_where_both_have_maps_of_one_size():
    network = nets.build("devicenet", ngf=8, blocks=6)
    assert taps_of_sizes(network, EXAMPLE, [(4, 4)] * 4 + [(5, 5)]) == (
        "down.1.1", "trunk.1.1", "trunk.3.1", "trunk.5.1", None,
    )  # fmt: skip
    assert taps_of_sizes(network, EXAMPLE, [(8, 8), (4, 4)])[0] == "down.0.1"
    config = UniformConfig(taps=("blocks.0",))
    work = replace(job(), student_net=other())
    assert tap_pairs(config, work) == (("blocks.0",), ("down.1.1",))
    named = config.model_copy(update={"student_taps": ("trunk.1",)})
    assert tap_pairs(named, work) == (("blocks.0",), ("trunk.1",))
    with pytest.raises(ValueError, match="student_taps have maps of 8x8, taps of 4x4: name for each tap"):
        tap_pairs(named.model_copy(update={"student_taps": ("down.0",)}), work)
    with pytest.raises(ValueError, match="student_taps are for a student with another network"):
        tap_pairs(named, job())
    coarse = replace(job(), student_net=other("devicenet", ngf=8, blocks=1, downs=3))
    assert tap_pairs(config, coarse) == (("blocks.0",), ("down.1.1",))
    assert tap_pairs(
        UniformConfig(taps=("down",)), replace(job(), student_net=other("srvgg", ngf=8, convs=2, scale=1))
    ) == ((), ())


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("teaching", ["distilled", "scratch"])
def test_another_network_makes_another_stage(teaching, tmp_path):
    config = UniformConfig(teaching=teaching)
    for branches in (True, False):
        whole = other(ngf=8, blocks=1, branches=branches)
        result = uniform(Run(tmp_path), replace(job(budget="macs=20%"), student_net=whole), config)
        assert not has_branches(result.students["G"])
    assert len([*(tmp_path / "stages").iterdir()]) == 2
