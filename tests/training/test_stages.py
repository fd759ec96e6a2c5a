"""Stages: done once, stamped, put aside rather than lost."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

import ganshrink
from ganshrink.training.environment import code_hash, source_hash
from ganshrink.training.stages import Run, tensors_hash


class Maker:
    """Counts how often a stage is made."""

    def __init__(self, fail: bool = False) -> None:
        self.times, self.fail = 0, fail

    def __call__(self, stage):
        self.times += 1
        (stage.path / "checkpoint.txt").write_text(stage.key)
        if self.fail:
            raise KeyboardInterrupt
        return {"G": {"weight": torch.rand(3)}, "plan": {"kept": [1, 2]}}


def test_a_stage_is_made_once_and_handed_out_again(tmp_path):
    make = Maker()
    first = Run(tmp_path).stage("search", make, made_from={"budget": "macs=10%"})
    again = Run(tmp_path).stage("search", make, made_from={"budget": "macs=10%"})
    assert make.times == 1
    assert torch.equal(first["G"]["weight"], again["G"]["weight"]) and again["plan"] == {"kept": [1, 2]}


def test_every_stage_starts_from_the_seed(tmp_path):
    draws = []
    for name in ("a", "b"):
        torch.rand(7)  # whatever was drawn before does not matter
        run = Run(tmp_path / name, seed=3)
        draws.append(run.stage("search", Maker(), made_from={})["G"]["weight"])
    assert torch.equal(*draws)


def test_changed_config_makes_it_anew_and_keeps_the_old_one(tmp_path, caplog):
    make = Maker()
    first = Run(tmp_path).stage("search", make, made_from={"floor": 1})
    with caplog.at_level(logging.WARNING):
        Run(tmp_path).stage("search", make, made_from={"floor": 2})
    assert make.times == 2 and "stage search" in caplog.text
    back = Run(tmp_path).stage("search", make, made_from={"floor": 1})
    assert make.times == 2 and torch.equal(back["G"]["weight"], first["G"]["weight"])


ENDS = {"epochs": 4, "max_steps": 100, "budget": 5.0, "if missed": "stop"}


def killed(run: Path, until, **changes) -> tuple[bool, dict]:
    """Whether a stage found its checkpoint, and its stamp, in a call that is killed."""
    found = []

    def make(stage):
        checkpoint = stage.path / "checkpoint.txt"
        found.append(checkpoint.is_file() and checkpoint.read_text() == stage.begun)
        checkpoint.write_text(stage.begun)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(run).stage("search", make, made_from={"floor": 1} | changes, until=until)
    return found[0], json.loads((run / "stages/search/stamp.json").read_text())


@pytest.mark.parametrize(
    ("changes", "goes_on"),
    [
        ({"epochs": 5}, True),
        ({"max_steps": None}, True),
        ({"budget": 5.5, "epochs": 9}, True),
        ({"if missed": "trim"}, True),
        ({"epochs": 3}, False),
        ({"epochs": 8, "budget": 4.9}, False),
        ({"params": 7}, False),
    ],
    ids=str,
)
def test_a_stage_that_is_not_done_goes_on_to_an_end_that_is_further_out(tmp_path, changes, goes_on):
    assert killed(tmp_path, ENDS)[0] is False
    found, stamp = killed(tmp_path, ENDS | changes)
    assert found == goes_on and stamp["until"] == ENDS | changes
    assert stamp.get("earlier", []) == [ENDS] * goes_on
    again, stamp = killed(tmp_path, ENDS | changes)
    assert again and stamp.get("earlier", []) == [ENDS] * goes_on


def test_a_stage_made_from_something_else_is_begun_anew_and_the_old_one_goes_on_later(tmp_path):
    killed(tmp_path, ENDS)
    assert killed(tmp_path, ENDS | {"epochs": 8}, floor=2)[0] is False
    found, stamp = killed(tmp_path, ENDS | {"epochs": 8})
    assert found and stamp["earlier"] == [ENDS]


def test_a_finished_stage_is_made_anew_for_another_end(tmp_path):
    make = Maker()
    for epochs in (4, 8, 4):
        Run(tmp_path).stage("search", make, made_from={}, until={"epochs": epochs})
    assert make.times == 2


def test_a_stage_depends_on_all_stages_before_it(tmp_path):
    later = Maker()
    for floor in (1, 2):
        run = Run(tmp_path)
        run.stage("search", Maker(), made_from={"floor": floor})
        run.stage("distill", later, made_from={})
    assert later.times == 2


def test_a_run_knows_its_stages_and_those_it_follows(tmp_path):
    whole = Run(tmp_path)
    whole.stage("other", Maker(), made_from={})
    whole = Run(tmp_path)  # another command, which needs but one of them
    whole.stage("teacher", Maker(), made_from={})
    part = whole.part("AtoB")
    part.follow(whole)
    part.stage("search", Maker(), made_from={})
    assert [(s["name"], s["path"]) for s in part.stages()] == [
        ("teacher", "../stages/teacher"),
        ("search", "stages/search"),
    ]
    for stage in part.stages():
        assert json.loads((part.path / stage["path"] / "done.json").read_text())["key"] == stage["key"]


def test_a_killed_stage_finds_its_folder_as_it_left_it(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path).stage("distill", Maker(fail=True), made_from={})
    left = (tmp_path / "stages/distill/checkpoint.txt").read_text()
    seen = []

    def resume(stage):
        seen.append((stage.path / "checkpoint.txt").read_text())
        assert stage.key == left
        return {}

    Run(tmp_path).stage("distill", resume, made_from={})
    assert seen == [left]


def test_changed_code_only_warns(tmp_path, caplog):
    make = Maker()
    Run(tmp_path).stage("search", make, made_from={})
    done = tmp_path / "stages/search/done.json"
    done.write_text(json.dumps(json.loads(done.read_text()) | {"code": "older"}))
    with caplog.at_level(logging.WARNING):
        Run(tmp_path).stage("search", make, made_from={})
    assert make.times == 1 and "another version of the code" in caplog.text


@pytest.mark.slow
def test_the_hash_of_the_code_covers_every_room_wherever_the_package_lives(tmp_path):
    package = Path(ganshrink.__file__).parent
    copy = shutil.copytree(package, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    assert source_hash(copy) == code_hash() == source_hash(package)
    rooms = {path.relative_to(copy).parts[0]: path for path in sorted(copy.rglob("*.py"))}
    assert {"__init__.py", "cli", "graph", "methods", "pruning", "training", "workflow"} <= set(rooms)
    seen = {code_hash()}
    for path in rooms.values():  # the last file of each room
        path.write_text(path.read_text() + "\n")
        assert source_hash(copy) not in seen
        seen.add(source_hash(copy))
    rooms["cli"].rename(rooms["cli"].with_name("renamed.py"))
    assert source_hash(copy) not in seen


def test_a_stage_killed_in_its_first_moment_does_not_bar_the_way_back(tmp_path):
    """Nothing but a temporary of its stamp is there, and the folder of the config before has been put aside."""
    make = Maker()
    Run(tmp_path).stage("search", make, made_from={"floor": 1})
    [key] = [json.loads(p.read_text())["key"] for p in tmp_path.glob("stages/search/stamp.json")]
    (tmp_path / "stages/search").rename(tmp_path / f"stages/search.{key[:8]}")
    (tmp_path / "stages/search").mkdir()
    (tmp_path / "stages/search/.stamp.json.abcdefgh.json").write_text('{"ke')
    Run(tmp_path).stage("search", make, made_from={"floor": 1})
    assert make.times == 1 and not list(tmp_path.glob("stages/search/.*"))


DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "no JSON, no tensors": lambda path: path.write_bytes(b"\xff\xfe" * 40),
    "of another kind": lambda path: path.write_text('["foreign"]'),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["done.json", "stamp.json", "G.safetensors", "plan.json"])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path, file, damage):
    make = Maker()
    first = Run(tmp_path).stage("search", make, made_from={})["G"]["weight"].clone()  # off the file's mapping
    folder = tmp_path / "stages/search"
    DAMAGE[damage](folder / file)
    if (file, damage) != ("done.json", "gone"):  # which is a stage that is not done
        with pytest.raises(
            ValueError, match=f"{file} (is|belongs)[^\n]*: delete [^\n]* again[^\n]*$"
        ) as caught:
            Run(tmp_path).stage("search", make, made_from={})
        assert make.times == 1 and "\n" not in str(caught.value)
        if file == "stamp.json":
            shutil.rmtree(folder)
        else:
            (folder / "done.json").unlink()
    again = Run(tmp_path).stage("search", make, made_from={})
    assert make.times == 2 and torch.equal(again["G"]["weight"], first)


def test_whole_files_of_another_run_are_told_from_its_own(tmp_path):
    for number in (1, 2):
        Run(tmp_path / str(number), seed=number).stage("search", Maker(), made_from={})
    for file in ("done.json", "G.safetensors"):
        mine, theirs = (tmp_path / number / "stages/search" / file for number in "12")
        kept = mine.read_bytes()
        mine.write_bytes(theirs.read_bytes())
        with pytest.raises(
            ValueError, match=f"{file} (belongs to other|is not what the stage wrote).*: delete"
        ):
            Run(tmp_path / "1", seed=1).stage("search", Maker(), made_from={})
        mine.write_bytes(kept)


def test_a_damaged_file_of_the_run_is_named(tmp_path):
    (tmp_path / "cost.json").write_text("{")
    with pytest.raises(ValueError, match="cost.json is damaged .*: run the command that made it again"):
        Run(tmp_path).read("cost.json")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot make the run folder .*file/run"):
        Run(tmp_path / "file" / "run")


def test_the_hash_of_tensors_sees_names_shapes_and_values():
    x = torch.arange(6.0)
    hashes = [
        tensors_hash(t) for t in ({"a": x}, {"b": x}, {"a": x.view(2, 3)}, {"a": x + 1}, {"a": x.half()})
    ]
    assert len(set(hashes)) == 5
    assert tensors_hash({"a": x.clone()}) == hashes[0]
