"""What UGC refuses, in which words and how early; and what makes a stage be done again."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from safetensors.torch import load_file, save_file

from ganshrink.data import TensorPairs
from ganshrink.methods.base import Job
from ganshrink.metrics import MetricsConfig
from ganshrink.metrics.squeezenet import SqueezeNet
from ganshrink.training.stages import Run
from ganshrink.workflow.recipe import resolve

pytestmark = pytest.mark.slow

QUICK = {"population": 1, "generations": 1}

# What is refused, before anything is trained


def refusal(folder: Path, work: Job, kind: type[Exception] = ValueError, **changes: Any) -> str:
    with pytest.raises(kind) as error:
        few.go(folder, few.untaught(work), few.settings(**changes))
    assert "\n" not in str(error.value) and few.begun(folder) == {}
    return str(error.value)


def test_a_band_that_holds_no_network_names_the_nearest_costs(tmp_path):
    """Between one width and the next."""
    message = refusal(tmp_path, few.job(budget="macs=71%"), steps=2, extra_blocks=0, band=0.995)
    wanted = (
        r"^the budget macs=(\S+) cannot be met: no network found that costs macs=\S+ to macs=\1: "
        r"the nearest that were found cost macs=(\S+)k and macs=(\S+)k; lower method.search.band, or raise "
        r"method.supernet.steps$"
    )
    assert (found := re.search(wanted, message)), message
    limit = float(found[1].removesuffix("k"))
    assert float(found[2]) < 0.995 * limit < limit < float(found[3])


def test_what_judges_must_be_there_where_it_counts(tmp_path):
    weighing = {"lambda_style": None, "vgg": tmp_path / "none.safetensors"}
    for changes in (weighing, {**weighing, "nas": False}):
        assert "none.safetensors" in refusal(tmp_path / "run", few.job(), FileNotFoundError, **changes)
    missing = MetricsConfig(
        segmenter_weights=tmp_path / "gone.safetensors", squeezenet=tmp_path / "no.safetensors"
    )
    mapped = replace(few.job(unlabelled=few.Labelled(tiny.pictures(15, 5))), metrics=missing)
    assert "gone.safetensors" in refusal(tmp_path / "run", mapped, FileNotFoundError, fitness="miou")
    wanted = replace(mapped, metrics=missing.model_copy(update={"names": ("fd_squeezenet",)}))
    assert "no.safetensors" in refusal(tmp_path / "run", wanted, FileNotFoundError)  # by auto
    short = replace(wanted, training=few.job(max_steps=0).training)
    few.go(tmp_path / "run", short, few.settings(nas=False))


def test_miou_needs_label_maps(tmp_path):
    assert "fitness = 'miou' needs label maps" in refusal(tmp_path, few.job(), fitness="miou")


def test_a_single_image_to_search_on_is_too_few(tmp_path):
    alone = few.job(data=TensorPairs(tiny.pairs().pairs[:1]), unlabelled=None, batch_size=1)
    assert "there are only 1: give at least 2 pairs" in refusal(tmp_path, alone)


@pytest.mark.parametrize(
    ("fitness", "least", "pairs", "unlabelled"),
    [
        pytest.param("fd_squeezenet", 2, 4, 9, marks=pytest.mark.exhaustive),
        ("kd_squeezenet", 3, 2, 15),
    ],
)
def test_a_distance_of_too_few_images_is_refused(tmp_path, fitness, least, pairs, unlabelled):
    """On either side; the metric itself would say so after the supernet's training."""
    data = TensorPairs(tiny.pairs().pairs[:pairs])
    work = few.job(data=data, unlabelled=unlabelled, batch_size=1)
    work = replace(work, metrics=judging(tmp_path / "judge.safetensors", 0))
    message = refusal(tmp_path / "run", work, fitness=fitness)
    assert f"by {fitness}, on {unlabelled // 5} images kept out" in message
    assert f"against {pairs} labelled ones: it needs {least} of each" in message


# What is done again


def walked(folder: Path, of_job: dict[str, Any], **changes: Any) -> set[str]:
    """A run of one step a stage, and which of its stages were done more than once."""
    options = {"teacher": 7, "metrics": MetricsConfig(), "max_steps": 1} | of_job
    run, seed, metrics = Run(folder), options.pop("teacher"), options.pop("metrics")
    work = replace(few.job(**options), metrics=metrics)
    few.go(folder, few.taught_in(run, work, seed), few.settings(**QUICK | changes), run)
    return {name for name, times in few.begun(folder).items() if times > 1}


def test_of_pairs_another_teacher_changes_no_other_stage_and_other_blocks_change_all(tmp_path):
    """Pairs are learnt from, not the teacher's images."""
    assert [walked(tmp_path, {"teacher": seed}) for seed in (7, 8)] == [set(), {"teacher"}]
    again = walked(tmp_path, {"teacher": 8}, extra_blocks=0)
    assert again == {"teacher", "supernet", "search", "finetune"}


@pytest.mark.exhaustive
def test_where_vgg_lies_decides_nothing_and_what_it_is_all(tmp_path):
    judge = few.vgg(tmp_path)
    other = shutil.copy(judge, tmp_path / "other.safetensors")
    given = {"lambda_style": None, "lambda_feature": None, "nas": False}
    assert [walked(tmp_path / "run", {}, vgg=file, **given) for file in (judge, other)] == [set(), set()]
    save_file({name: t + 1e-3 for name, t in load_file(judge).items()}, other)
    assert walked(tmp_path / "run", {}, vgg=other, **given) == {"finetune"}


def test_keys_of_earlier_versions_are_still_read(caplog):
    old = {
        "name": "ugc", "search": False, "search_unlabelled": False, "finetune_unlabelled": False, "steps": 4,
        "population": 7, "calibration_images": 9, "taps": ["a"], "lambda_tv": 0.5, "extra_blocks": 1,
    }  # fmt: skip
    found = resolve({"net": "resnet6", "method": old}).method
    assert (found.nas, found.lambda_tv, found.extra_blocks) == (False, 0.5, 1)
    assert (found.supernet.unlabelled, found.supernet.steps, found.search.population) == (False, 4, 7)
    assert (found.finetune.unlabelled, found.finetune.taps) == (False, ("a",))
    assert found.search.calibration_images == found.finetune.calibration_images == 9
    assert "method.search is now method.nas" in caplog.text
    now = {"name": "ugc", "search": {"band": 0.5}}
    assert resolve({"net": "resnet6", "method": now}).method.search.band == 0.5


@pytest.mark.exhaustive
@pytest.mark.parametrize("nas", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_of_a_task_without_pairs_all_is_done_again_for_another_teacher(tmp_path, nas):
    for seed in (7, 8):
        run, work = (
            Run(tmp_path),
            few.job(task=tiny.image2image(), data=tiny.inputs(), max_steps=1, unlabelled=None),
        )
        few.go(tmp_path, few.taught_in(run, work, seed), few.settings(**QUICK, nas=nas), run)
    assert set(few.begun(tmp_path).values()) == {2}


def judging(file: Path, seed: int) -> MetricsConfig:
    """By a SqueezeNet with weights of chance."""
    torch.manual_seed(seed)
    state = SqueezeNet().state_dict()
    save_file({key: value for key, value in state.items() if "num_batches" not in key}, file)
    return MetricsConfig(names=("fd_squeezenet",), squeezenet=file)


@pytest.mark.exhaustive
def test_another_judge_makes_another_search(tmp_path):
    again = []
    for seed in (0, 1):
        of_job = {"metrics": judging(tmp_path / f"{len(again)}.safetensors", seed), "unlabelled": 15}
        again.append(walked(tmp_path / "run", of_job))
    assert again == [set(), {"search", "finetune"}]
