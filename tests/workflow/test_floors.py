"""What nobody has to learn is scored beside a student."""

import pytest
import torch
from torch import nn

from ganshrink.data import Images, open_dataset
from ganshrink.data.config import DataConfig
from ganshrink.metrics import MetricsConfig, Value
from ganshrink.training.stages import Run
from ganshrink.workflow.floors import floors
from ganshrink.workflow.scoring import write_metrics

NAMES = ["identity", "mean", "untrained"]


@pytest.fixture(scope="module")
def images() -> Images:
    counts = {"train": 1, "val": 1, "test": 3}
    return open_dataset(DataConfig(name="facades-synthetic", size=32, counts=counts), "test")


def network(width: int = 4) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 3, 1))


def test_the_three_of_them(images: Images) -> None:
    teacher, student = network(8), network()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    drawn = torch.get_rng_state()
    found = floors({"teacher": teacher, "student": student}, images)
    assert list(found) == NAMES and torch.equal(torch.get_rng_state(), drawn)
    inputs = torch.stack([images.sample(i, None)["input"] for i in range(3)])
    with torch.no_grad():
        assert torch.equal(found["identity"](inputs), inputs)
        mean = teacher(inputs).clamp(-1, 1).mean(dim=0)
        torch.testing.assert_close(found["mean"](inputs), mean.expand(3, -1, -1, -1))
        fresh = found["untrained"](inputs)
        assert torch.equal(
            fresh, floors({"teacher": teacher, "student": student}, images)["untrained"](inputs)
        )
        assert not torch.allclose(fresh, student(inputs))
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())


def test_what_cannot_be_made_is_left_out(images: Images, caplog: pytest.LogCaptureFixture) -> None:
    class Own(nn.Module):
        """Its weights are parameters of its own, which nothing makes anew."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3, 3, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, self.weight, padding=1)

    assert list(floors({"teacher": network(), "student": Own()}, images)) == NAMES[:2]
    enlarging = nn.Sequential(network(), nn.Upsample(scale_factor=2))
    assert list(floors({"teacher": enlarging, "student": enlarging}, images)) == NAMES[1:]
    assert floors({"teacher": nn.Conv2d(5, 3, 1), "student": network()}, images) == {}
    assert "what an untrained student scores is not known" in caplog.text


class Spread:
    """A metric of a user's own that cannot score pictures that are all the same."""

    name, needs = "spread", frozenset({"target"})

    def reset(self) -> None:
        self.seen: list[torch.Tensor] = []

    def update(self, batch) -> None:
        self.seen.append(batch.fake)

    def compute(self) -> Value:
        spread = torch.cat(self.seen).std(dim=0).mean().item()
        if spread == 0:
            raise ZeroDivisionError("all pictures are the same")
        return Value(1 / spread, "lower", {})


def test_a_metric_that_fails_for_them_alone_is_no_failure(images: Images, tmp_path) -> None:
    networks = {"teacher": network(8), "student": network()}
    config = MetricsConfig(names=("psnr", Spread()))
    found = write_metrics(Run(tmp_path), networks, images, config, "test", trained=[])
    assert list(found) == [*NAMES, "teacher", "student"]
    assert {name: list(scores) for name, scores in found.items()} == {
        name: ["psnr"] if name == "mean" else ["psnr", "spread"] for name in found
    }
