"""Sample pictures while a network is trained: at their times, of the right pictures, and the training does not notice."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.tiny_training import Pairs, make_nets

from ganshrink.data import as_picture
from ganshrink.reports import write_report
from ganshrink.training.samples import Sampler
from ganshrink.training.stages import Stage
from ganshrink.training.tasks import TASKS
from ganshrink.training.train import Training, fit_nets


class Shown(Pairs):
    def preview(self, input):
        return as_picture(input)


def train(folder: Path, steps: int = 3, **settings):
    torch.manual_seed(0)
    task = TASKS["pix2pix"](TASKS["pix2pix"].Config(ndf=4, d_layers=1, lr=0.02))
    nets = task.nets(make_nets()["G"], 3, 3)
    how = Training(max_steps=steps, accelerator="cpu", batch_size=2, log_every=1, **settings)
    fit_nets(Stage(folder, ""), nets, task, Shown(), how, progress=False)
    return nets


@pytest.mark.slow
def test_pictures_of_a_training_are_shown_and_change_nothing(tmp_path):
    plain = train(tmp_path / "plain")
    nets = train(tmp_path / "stages/teacher", sample_minutes=1e-9)
    assert all(
        torch.equal(one, nets["G"].state_dict()[name]) for name, one in plain["G"].state_dict().items()
    )
    folder = tmp_path / "stages/teacher/samples"
    assert [path.name for path in sorted(folder.iterdir())] == [f"000000{step}_G.png" for step in (1, 2, 3)]
    strip = np.asarray(Image.open(folder / "0000003_G.png")).astype(float)
    assert strip.shape == (2 * 8, 2 * 8, 3)
    given = torch.from_numpy(strip[:8, :8]).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        made = ((nets["G"](given)[0] + 1) * 127.5).permute(1, 2, 0)
    assert (
        np.abs(strip[:8, 8:] - made.numpy()).max() < 2
    )  # the last one is of the weights that are handed out
    page = write_report(tmp_path).read_text()  # of a run that is still at work
    assert page.count("pictures after step") == 3 and "<b>step 3</b>" in page


@pytest.mark.exhaustive
def test_every_so_many_minutes_by_the_clock_and_once_at_the_end(tmp_path):
    time = iter(range(0, 10_000, 30))  # half a minute a look

    class Way:
        generator, input = torch.nn.Identity(), torch.zeros(1, 3, 8, 8)

    class Context:
        ways = {"G_A": Way(), "G_B": Way()}  # noqa: RUF012

        def __init__(self, step: int) -> None:
            self.step = step

    sampler = Sampler(tmp_path, Shown(), 1.5, total=9, clock=lambda: next(time))
    for step in range(9):
        sampler.update().after(Context(step))
    written = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert written == [f"000000{step}_{net}.png" for step in (3, 6, 9) for net in ("G_A", "G_B")]


@pytest.mark.exhaustive
def test_the_average_is_shown_and_a_search_shows_nothing(tmp_path):
    assert Training(sample_minutes=1).for_search().sample_minutes is None
    nets = train(tmp_path, ema=0.5, sample_minutes=60)
    [path] = (tmp_path / "samples").iterdir()
    strip = np.asarray(Image.open(path)).astype(float)
    given = torch.from_numpy(strip[:8, :8]).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        made = ((nets["G"](given)[0] + 1) * 127.5).permute(1, 2, 0)
    assert np.abs(strip[:8, 8:] - made.numpy()).max() < 2
    shutil.rmtree(tmp_path / "samples")
