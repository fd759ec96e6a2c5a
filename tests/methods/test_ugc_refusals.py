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
from safetensors.torch import save_file
from torch import nn

from ganshrink.data import TensorPairs
from ganshrink.methods.base import Job
from ganshrink.methods.ugc import ugc
from ganshrink.metrics import MetricsConfig
from ganshrink.metrics.squeezenet import SqueezeNet
from ganshrink.training.stages import Run
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import read_recipe, resolve
from tiny_recipe import tiny as tiny_recipe

QUICK = {"population": 1, "generations": 1}

# What is refused, before anything is trained


def refusal(folder: Path, work: Job, kind: type[Exception] = ValueError, **changes: Any) -> str:
    with pytest.raises(kind) as error:
        ugc(Run(folder), few.untaught(work), few.settings(**changes))
    assert "\n" not in str(error.value) and few.begun(folder) == {}
    return str(error.value)


UNREACHABLE = r"^the budget macs=\S+ cannot be met; the smallest reachable cost is macs=\S+ \(\d+\)$"


@pytest.mark.parametrize(
    ("budget", "changes"),
    [
        ("macs=2%", {}),
        ("macs=30%", {"floor": 8}),
        ("macs=30%", {"round_to": 8}),
        ("macs=30%", {"steps": 1, "extra_blocks": 0}),
        ("macs=2%", {"search": False}),
    ],
    ids=str,
)
def test_a_budget_below_the_smallest_network_names_the_smallest_reachable_cost(tmp_path, budget, changes):
    assert re.search(UNREACHABLE, refusal(tmp_path, few.job(budget=budget), **changes))


def test_the_smallest_reachable_cost_can_be_reached(tmp_path):
    message = refusal(tmp_path, few.job(budget="macs=2%"))
    least = int(re.findall(r"\((\d+)\)", message)[0])
    result = ugc(Run(tmp_path), few.job(budget=f"macs={least}", max_steps=1), few.settings(**QUICK))
    assert result.channels["G"].cost(result.plans["G"]).macs == least


def test_a_band_that_holds_no_network_names_the_nearest_costs(tmp_path):
    """Between one width and the next."""
    message = refusal(tmp_path, few.job(budget="macs=71%"), steps=2, extra_blocks=0, band=0.995)
    wanted = (
        r"^the budget macs=(\S+) cannot be met: no network found that costs macs=\S+ to macs=\1: "
        r"the nearest that were found cost macs=(\S+)k and macs=(\S+)k; lower method.band, or raise method.steps$"
    )
    assert (found := re.search(wanted, message)), message
    limit = float(found[1].removesuffix("k"))
    assert float(found[2]) < 0.995 * limit < limit < float(found[3])


def test_what_judges_must_be_there_where_it_counts(tmp_path):
    weighing = {"lambda_style": None, "vgg": tmp_path / "none.safetensors"}
    for changes in (weighing, {**weighing, "search": False}):
        assert "none.safetensors" in refusal(tmp_path / "run", few.job(), FileNotFoundError, **changes)
    missing = MetricsConfig(
        segmenter_weights=tmp_path / "gone.safetensors", squeezenet=tmp_path / "no.safetensors"
    )
    mapped = replace(few.job(unlabelled=few.Labelled(tiny.pictures(15, 5))), metrics=missing)
    assert "gone.safetensors" in refusal(tmp_path / "run", mapped, FileNotFoundError, fitness="miou")
    wanted = replace(mapped, metrics=missing.model_copy(update={"names": ("fd_squeezenet",)}))
    assert "no.safetensors" in refusal(tmp_path / "run", wanted, FileNotFoundError)  # by auto
    ugc(
        Run(tmp_path / "run"),
        replace(wanted, training=few.job(max_steps=0).training),
        few.settings(search=False),
    )


def test_miou_needs_label_maps(tmp_path):
    assert "method.fitness = 'miou' needs label maps" in refusal(tmp_path, few.job(), fitness="miou")


def test_a_single_image_to_search_on_is_too_few(tmp_path):
    alone = few.job(data=TensorPairs(tiny.pairs().pairs[:1]), unlabelled=None, batch_size=1)
    assert "there are only 1: give at least 2 pairs" in refusal(tmp_path, alone)


def test_a_network_of_which_nothing_may_be_cut_is_refused(tmp_path):
    work = few.job(lambda: nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()), budget="macs=100%")
    assert "no channel of this network may be cut" in refusal(tmp_path, work)


def test_a_fraction_that_leaves_no_label_is_refused(tmp_path):
    raw = tiny_recipe(tmp_path / "run", data={"label_fraction": "1%"})
    raw["method"] = {"name": "ugc", "lambda_style": 0, "lambda_feature": 0}
    with pytest.raises(
        ValueError, match=r"leaves none of the 4 training pairs its target: give at least 12.5%"
    ) as error:
        compress_recipe(resolve(raw), progress=False)
    assert "\n" not in str(error.value) and few.begun(tmp_path / "run") == {}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "method.filter=reverse",
            "method.filter: Input should be 'realness', 'printed' or 'none' (got 'reverse')",
        ),
        ("method.band=2", "method.band: Input should be less than or equal to 1 (got 2)"),
        ("method.parents=0", "method.parents: Input should be greater than 0 (got 0)"),
        ("method.fitness=psnr", "method.fitness: Input should be 'auto', 'miou'"),
        ("method.poplation=3", "unknown key; did you mean 'population'"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_said_in_a_line(override, words):
    with pytest.raises(ValueError) as error:
        read_recipe(Path("recipes/ugc/quick.toml"), [override])
    [line] = str(error.value).splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("fitness", "least", "pairs", "unlabelled"),
    [
        ("fd_squeezenet", 2, 4, 9),
        ("fd_squeezenet", 2, 1, 12),
        ("kd_squeezenet", 3, 4, 14),
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
    ugc(run, few.taught_in(run, work, seed), few.settings(**QUICK | changes))
    return {name for name, times in few.begun(folder).items() if times > 1}


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("once")
    assert walked(folder, {}) == set()
    return folder


@pytest.fixture(scope="module")
def once_fixed(tmp_path_factory) -> Path:
    """Without a search."""
    folder = tmp_path_factory.mktemp("fixed")
    assert walked(folder, {}, search=False) == set()
    return folder


STAGES = {"supernet", "search", "finetune"}


@pytest.mark.parametrize(
    ("of_job", "changes", "again"),
    [
        ({}, {}, set()),
        ({}, {"teachers_every": 2, "shared_layers": 2}, {"finetune"}),
        ({}, {"mutation": 0.3}, {"search", "finetune"}),
        ({"budget": "macs=40%"}, {}, {"search", "finetune"}),
        ({}, {"lambda_ssim": 5}, STAGES),
        ({}, {"extra_blocks": 2}, STAGES),
        ({"unlabelled": 7}, {}, STAGES),
        ({"seed": 1}, {}, STAGES),
        ({"teacher": 8}, {}, {"teacher"}),  # pairs are learnt from, not its images
    ],
    ids=lambda value: None if isinstance(value, set) else str(value),
)
def test_a_stage_is_done_again_if_what_it_is_made_from_changed(once, tmp_path, of_job, changes, again):
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    assert walked(tmp_path, of_job, **changes) == again


@pytest.mark.parametrize("search", [True, False])
def test_of_a_task_without_pairs_all_is_done_again_for_another_teacher(tmp_path, search):
    for seed in (7, 8):
        run, work = (
            Run(tmp_path),
            few.job(task=tiny.image2image(), data=tiny.inputs(), max_steps=1, unlabelled=None),
        )
        ugc(run, few.taught_in(run, work, seed), few.settings(**QUICK, search=search))
    assert set(few.begun(tmp_path).values()) == {2}


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, set()),
        ({"teachers_every": 1}, {"finetune"}),
        ({"lambda_ssim": 5}, {"finetune"}),
        ({"calibration_images": 2}, {"finetune"}),
    ],
    ids=str,
)
def test_without_a_search_too(once_fixed, tmp_path, changes, again):
    shutil.copytree(once_fixed, tmp_path, dirs_exist_ok=True)
    assert walked(tmp_path, {}, search=False, **changes) == again


def judging(file: Path, seed: int) -> MetricsConfig:
    """By a SqueezeNet with weights of chance."""
    torch.manual_seed(seed)
    state = SqueezeNet().state_dict()
    save_file({key: value for key, value in state.items() if "num_batches" not in key}, file)
    return MetricsConfig(names=("fd_squeezenet",), squeezenet=file)


def test_another_judge_makes_another_search(tmp_path):
    again = []
    for seed in (0, 0, 1):
        of_job = {"metrics": judging(tmp_path / f"{len(again)}.safetensors", seed), "unlabelled": 15}
        again.append(walked(tmp_path / "run", of_job))
    assert again == [set(), set(), {"search", "finetune"}]
