"""A killed run goes on to the bit."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from tiny_training import Outcome, make_nets, make_updates, run, train

from ganshrink.system.signals import Interrupted
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

STEPS = 20  # 4 epochs of 10 images, 2 a step


def assert_equal(one: Outcome, other: Outcome) -> None:
    a, b = one.tensors(), other.tensors()
    assert a.keys() == b.keys() and len(a) > 20
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def lines(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]


def said(directory: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "time"} for line in lines(directory)]


def stop() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "changes",
    rest_exhaustive(
        [{}, {"accumulate": 2}, {"precision": "bf16-mixed", "channels_last": True}],
        lambda changes: "precision" in changes,
    ),
)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, changes):
    whole = run(tmp_path / "whole", checkpoint_steps=3, **changes)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", checkpoint_steps=3, break_at=7, breaking=stop, **changes)
    resumed = run(tmp_path / "broken", checkpoint_steps=3, **changes)
    assert resumed.result.resumed_at == 6
    assert whole.result.steps == resumed.result.steps == (10 if "accumulate" in changes else STEPS)
    assert whole.result.images == resumed.result.images == 40
    assert_equal(whole, resumed)
    assert said(tmp_path / "whole") == said(tmp_path / "broken")


def test_a_run_killed_right_after_a_checkpoint_ends_as_an_uninterrupted_one(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from tiny_training import run;"
        "run(Path(sys.argv[1]), checkpoint_steps=3, break_at=6, breaking=lambda: os.kill(os.getpid(), signal.SIGKILL))"
    )
    here = Path(__file__).parent
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "killed")], cwd=here)
    assert killed.returncode == -signal.SIGKILL
    resumed = run(tmp_path / "killed", checkpoint_steps=3)
    assert resumed.result.resumed_at == 6
    assert_equal(run(tmp_path / "whole", checkpoint_steps=3), resumed)


def test_lines_after_the_checkpoint_are_not_there_twice(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, checkpoint_steps=6, log_every=1, break_at=8, breaking=stop)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8]
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"step": 9, "ep')  # a kill in the middle of a write
    run(tmp_path, checkpoint_steps=6, log_every=1)
    events = lines(tmp_path)
    assert [line["step"] for line in events] == list(range(1, STEPS + 1))
    assert [line["time"] for line in events] == sorted(line["time"] for line in events)


def test_a_finished_run_is_not_run_again(tmp_path):
    first = run(tmp_path)
    again = run(tmp_path, break_at=0, breaking=stop)  # would stop at any step
    assert again.result.resumed_at == again.result.steps == STEPS
    assert_equal(first, again)


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path):
    """The schedule is a function of the epoch, so the constant part is the same whatever follows it."""
    run(tmp_path / "short", epochs=4, max_steps=8)
    longer = run(tmp_path / "short", epochs=4, max_steps=12)
    assert longer.result.resumed_at == 8
    assert_equal(longer, run(tmp_path / "whole", epochs=4, max_steps=12))


def test_training_leaves_the_caller_s_random_numbers_and_threads_alone(tmp_path):
    nets = make_nets()
    torch.manual_seed(4)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(4)
    train(nets, make_updates(nets), tmp_path, max_steps=2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("number", rest_exhaustive([signal.SIGTERM, signal.SIGINT], signal.SIGTERM.__eq__))
def test_a_signal_ends_training_after_the_step_and_nothing_is_lost(tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(
        Interrupted, match=f"{number.name} after step 8 of 20, which is saved in .*checkpoint.pt; the same"
    ) as caught:
        run(tmp_path / "told", break_at=7, breaking=lambda: os.kill(os.getpid(), number))
    assert isinstance(caught.value, KeyboardInterrupt) and caught.value.number == number
    assert signal.getsignal(number) is before
    resumed = run(tmp_path / "told")
    assert resumed.result.resumed_at == 8
    assert_equal(run(tmp_path / "whole"), resumed)


def test_a_signal_in_the_last_step_is_not_lost(tmp_path):
    with pytest.raises(Interrupted, match="after step 20 of 20"):
        run(tmp_path, break_at=STEPS - 1, breaking=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run(tmp_path).result.resumed_at == STEPS


def test_a_second_signal_ends_at_once(tmp_path):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(tmp_path, break_at=7, breaking=twice)
    assert not isinstance(caught.value, Interrupted)
    assert not (tmp_path / "checkpoint.pt").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_signals_that_are_ignored_stay_so(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run(tmp_path, max_steps=8, break_at=6, breaking=lambda: os.kill(os.getpid(), signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_a_thread_leaves_signals_alone(tmp_path):
    seen, before = [], signal.getsignal(signal.SIGTERM)
    look = {"break_at": 1, "breaking": lambda: seen.append(signal.getsignal(signal.SIGTERM))}
    thread = threading.Thread(target=run, args=(tmp_path,), kwargs={"max_steps": 2, **look})
    thread.start()
    thread.join()
    assert seen == [before]
