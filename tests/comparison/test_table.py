"""What a comparison says of made-up runs of which it is known."""

import json

import pytest
import torch
from safetensors.torch import save_file

from ganshrink.comparison.results import Member
from ganshrink.comparison.table import tabulate
from planted_runs import good, metric, metrics


@pytest.fixture
def member(tmp_path):
    """A run of two seeds' worth: an entry's made-up score, with changes of its files."""

    def make(entry: str, psnr: float, seed: int = 0, **changes) -> Member:
        folder = tmp_path / f"{entry}-{seed}"
        folder.mkdir()
        files = (
            good() | {"metrics.json": metrics(psnr=metric("higher", teacher=20.0, student=psnr))} | changes
        )
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content))
        return Member(folder.name, entry, "macs=10%", seed, 1.0, folder)

    return make


def test_it_is_better_or_worse_than_the_reference_where_all_seeds_say_so(member):
    scores = {"uniform-distilled": 17.0, "cat": 18.0, "ugc": 16.0, "decig": 17.0}
    found = tabulate([member(entry, psnr, seed) for entry, psnr in scores.items() for seed in (0, 1)])
    said = {row["entry"]: row["said"] for row in found["rows"]}
    assert said["cat"] == ["better than the reference: worth its cost here"]
    assert said["ugc"] == ["worse than the reference"] and said["decig"] == said["uniform-distilled"] == []
    assert found["left_out"] == {} and found["ranking"][0]["places"][0] == ["cat"]
    assert {row["ms"]["p50"] for row in found["rows"]} == {25.0}  # of `good`, four times faster than 100 ms


def test_runs_that_cannot_be_compared_are_refused(member):
    runs = [member("cat", 18.0), member("ugc", 17.0)]
    with pytest.raises(ValueError, match="rank_by = 'fid', and the runs have psnr: choose one of these"):
        tabulate(runs, rank_by="fid")
    other = member("dmad", 17.0, **{"metrics.json": metrics(fid=metric("lower", teacher=20.0, student=30.0))})
    with pytest.raises(
        ValueError, match="no metrics in common to compare: score them by `ganshrink evaluate`"
    ):
        tabulate([*runs, other])


def test_a_run_of_another_teacher_is_left_out(member):
    runs = [member("cat", 18.0), member("ugc", 17.0), member("dmad", 19.0)]
    for run, weight in zip(runs, (1.0, 1.0, 2.0), strict=True):
        save_file({"weight": torch.tensor(weight)}, run.folder / "teacher.safetensors")
    found = tabulate(runs)
    assert found["left_out"] == {"dmad-0": {"all": "its teacher is another one"}}
    assert [names for budget in found["ranking"] for names in budget["places"]] == [["cat", "ugc"]]
