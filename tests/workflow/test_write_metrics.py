"""What metrics.json says besides values: images that were trained on, which are the reals, what a batch changes."""

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.data import TensorPairs
from ganshrink.metrics import MetricsConfig
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.frechet import FrechetDistance
from ganshrink.reports import write_report
from ganshrink.training.stages import Run
from ganshrink.workflow.outputs import score, write_metrics


def test_the_protocol_and_the_report_name_images_that_were_trained_on(tmp_path):
    pairs = [(torch.rand(3, 16, 16), torch.rand(3, 16, 16)) for _ in range(5)]
    images, networks = TensorPairs(pairs[:3]), {"teacher": nn.Identity(), "student": nn.Identity()}
    run, config = Run(tmp_path), MetricsConfig(names=("psnr",), limit=2)

    def told(trained):
        scores = write_metrics(run, networks, images, config, "test", trained=trained)
        return scores["student"]["psnr"]["protocol"].get("trained_on")

    assert told([TensorPairs(pairs[3:]), None]) is None
    assert told(None) == "unknown: the training images are not here"
    write_report(tmp_path)
    assert "images that were trained on" not in (tmp_path / "report.html").read_text()
    assert told([TensorPairs(pairs[3:]), TensorPairs(pairs[1:4])]) == "1 of 2 images"
    write_report(tmp_path)
    assert "Scored on images that were trained on: 1 of 2 images." in (tmp_path / "report.html").read_text()


class Mean(nn.Module):
    """The mean colour of each picture."""

    def forward(self, pictures):
        return pictures.float().mean(dim=(2, 3))


@pytest.mark.parametrize(("reals", "count"), [("train", 6), ("all", 9)])
def test_training_images_can_be_the_reals(tmp_path, reals, count):
    pairs = [(torch.rand(3, 16, 16), torch.rand(3, 16, 16)) for _ in range(9)]
    network = FeatureNetwork("mean", Mean(), dim=3, resize="none", sha256="0" * 12)
    config = MetricsConfig(names=(FrechetDistance("fd", network, split="test", reals=reals),), reals=reals)
    images, networks = TensorPairs(pairs[:3]), {"teacher": nn.Identity(), "student": nn.Identity()}
    trained = [TensorPairs(pairs[3:]), None]
    scores = write_metrics(Run(tmp_path), networks, images, config, "test", trained=trained)
    assert scores["student"]["fd"] == scores["teacher"]["fd"]
    assert scores["student"]["fd"]["protocol"]["targets"] == count
    with pytest.raises(ValueError, match="needs training images, which are not given here"):
        score(nn.Identity(), images, config)


def test_a_network_that_sees_its_batch_is_scored_at_a_size_that_is_named(tmp_path):
    images = TensorPairs([(torch.rand(3, 16, 16), torch.rand(3, 16, 16)) for _ in range(5)])
    values = {}
    for name in ("batch_stats", "instance"):
        torch.manual_seed(0)
        network = nets.build("resnet6", ngf=4, blocks=1, norm=name).eval()
        networks = {"teacher": network, "student": network}
        for size in (1, 4):
            config = MetricsConfig(names=("psnr",), batch_size=size)
            scores = write_metrics(Run(tmp_path), networks, images, config, "test", trained=[None])
            values[name, size] = scores["student"]["psnr"]["value"]
            wanted = size if name == "batch_stats" else None
            assert scores["student"]["psnr"]["protocol"].get("batch_size") == wanted
    assert abs(values["batch_stats", 1] - values["batch_stats", 4]) > 1e-4
    assert abs(values["instance", 1] - values["instance", 4]) < 1e-4
