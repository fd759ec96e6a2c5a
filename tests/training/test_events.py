"""What a run says of itself, and how it stops when the numbers break."""

import json
from collections.abc import Iterator
from io import StringIO

import pytest
import torch
from rich.console import Console
from tiny_training import Step, make_nets, make_updates, run, train
from torch import Tensor

from ganshrink.training import NonFiniteLoss, Update, adam
from ganshrink.training.checkpoint import load_checkpoint
from ganshrink.training.log import Events
from ganshrink.training.progress import ProgressDisplay


def events(directory):
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]


def test_a_line_holds_the_means_since_the_line_before(tmp_path):
    nets = make_nets()

    def losses(context: Step) -> Iterator[dict[str, Tensor]]:
        yield {"G_step": context.step + 0 * context.fake.sum()}

    train(nets, [Update("G", [adam(nets["G"].parameters(), lr=3e-3)], losses)], tmp_path, max_steps=10)
    lines = events(tmp_path)
    assert [line["step"] for line in lines] == [4, 8, 10]
    assert [line["losses"]["G_step"] for line in lines] == [1.5, 5.5, 8.5]
    assert [line["images"] for line in lines] == [8, 16, 20]
    assert [line["epoch"] for line in lines] == [0, 1, 1]
    assert [line["lr"] for line in lines] == pytest.approx([3e-3] * 3)
    assert list(lines[0]) == ["step", "epoch", "time", "images", "losses", "lr"]


def test_what_an_update_watches_stands_beside_the_losses(tmp_path):
    nets = make_nets()
    updates, steps = make_updates(nets), []
    updates[0].after = lambda context: steps.append(context.step)
    updates[0].watch = lambda: {"steps": float(len(steps))}
    train(nets, updates, tmp_path, max_steps=10)
    assert [line["watched"] for line in events(tmp_path)] == [{"steps": 4.0}, {"steps": 8.0}, {"steps": 10.0}]
    assert all("steps" not in line["losses"] for line in events(tmp_path))


def poisoned(nets, at: int) -> list[Update]:
    """A loss that becomes infinite at a step and stays so."""
    d, g = make_updates(nets)
    inner = g.losses

    def losses(context: Step) -> Iterator[dict[str, Tensor]]:
        for terms in inner(context):
            yield terms | {"G_poison": context.fake.sum() * (float("inf") if context.step >= at else 0)}

    g.losses = losses
    return [d, g]


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tmp_path):
    nets = make_nets()
    with pytest.raises(NonFiniteLoss, match="loss term G_poison of update G was not finite at step 6"):
        train(nets, poisoned(nets, 6), tmp_path, checkpoint_steps=5, log_every=100)
    saved = load_checkpoint(tmp_path / "checkpoint.pt", key="")
    assert saved["step"] == 5
    assert all(v.isfinite().all() for net in saved["nets"].values() for v in net.values())
    assert [line["step"] for line in events(tmp_path)] == [5]


def test_it_is_noticed_at_the_next_line(tmp_path):
    nets = make_nets()
    updates = poisoned(nets, 2)
    seen = []
    updates[0].after = lambda context: seen.append(context.step)
    with pytest.raises(NonFiniteLoss, match="at step 2"):
        train(nets, updates, tmp_path, log_every=4)
    assert seen == [0, 1, 2, 3]


def test_weights_spoiled_by_a_gradient_are_not_saved(tmp_path):
    """The square root's gradient at 0 is infinite, the loss is not."""
    nets = make_nets()

    def losses(context: Step) -> Iterator[dict[str, Tensor]]:
        yield {"G_root": (0 * context.fake).abs().sum().sqrt()}

    with pytest.raises(
        NonFiniteLoss, match=r"G\.0\.weight was not finite after 1 steps although every loss was"
    ):
        train(nets, [Update("G", [adam(nets["G"].parameters())], losses)], tmp_path, checkpoint_steps=1)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_tensorboard_is_written_or_asked_for(tmp_path):
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match=r"pip install 'ganshrink\[tensorboard\]'"):
            Events(tmp_path / "events.jsonl", step=0, tensorboard=True)
    else:
        run(tmp_path, max_steps=2, tensorboard=True)
        assert list((tmp_path / "tensorboard").iterdir())


def shown(*, terminal: bool, enabled: bool = True) -> str:
    console = Console(file=StringIO(), force_terminal=terminal, width=200)
    display = ProgressDisplay(
        "student", done=0, total=40, images_per_step=2, enabled=enabled, console=console
    )
    with display:
        for step in range(1, 41):
            display.step(step, {"G_gan": 0.5, "G_recon": 12.345} if step >= 20 else None)
    return console.file.getvalue()


def test_progress_without_a_terminal_is_a_line_every_tenth_of_the_way():
    lines = shown(terminal=False).splitlines()
    assert [line.split(" steps")[0] for line in lines] == [f"student: {n}/40" for n in range(4, 41, 4)]
    assert "\x1b" not in "".join(lines)
    assert "img/s" in lines[-1] and lines[-1].endswith("G_gan 0.5  G_recon 12.3")
    assert "s left" in lines[0]


def test_progress_on_a_terminal_is_a_bar_with_losses():
    text = shown(terminal=True)
    assert "40/40" in text and "img/s" in text and "G_recon 12.3" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_can_be_silent(terminal, tmp_path, capfd):
    assert shown(terminal=terminal, enabled=False) == ""
    run(tmp_path, max_steps=3)
    assert capfd.readouterr() == ("", "")


def test_a_step_does_not_wait_for_its_losses(tmp_path, monkeypatch):
    """Between two lines no value is read from the device."""
    nets = make_nets()
    reads: list[int] = []
    original = torch.Tensor.tolist

    def counting(tensor: Tensor) -> object:
        reads.append(tensor.numel())
        return original(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", counting)
    train(nets, make_updates(nets), tmp_path, log_every=100, max_steps=8)
    assert len(reads) == 3  # the only line, at the end: means, first bad steps, and the check of the weights
