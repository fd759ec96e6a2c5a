"""What metrics.json says besides values: images that were trained on, which are the reals, what a batch changes."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ganshrink import nets
from ganshrink.data import TensorPairs
from ganshrink.metrics import METRICS, MetricsConfig
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.frechet import FrechetDistance
from ganshrink.metrics.kernel import KernelDistance
from ganshrink.metrics.resampling import interval
from ganshrink.reports import write_report
from ganshrink.training.stages import Run
from ganshrink.workflow.scoring import read_scores, score, write_metrics


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


def test_what_values_are_made_of_is_kept_by_picture_and_has_intervals(tmp_path):
    pairs = [(torch.rand(3, 16, 16), torch.rand(3, 16, 16)) for _ in range(5)]
    images, networks = TensorPairs(pairs), {"teacher": nn.Identity(), "student": nn.Tanh()}
    network = FeatureNetwork("mean", Mean(), dim=3, resize="none", sha256="0" * 12)
    kd = KernelDistance("kd", network, split="test")
    config = MetricsConfig(names=("psnr", "psnr_teacher", kd), batch_size=2, limit=4)
    values = write_metrics(Run(tmp_path), networks, images, config, "test", trained=None)
    scores = read_scores(tmp_path)
    assert scores.names == [images.sample(place, None)["name"] for place in range(4)]
    assert {name: set(found) for name, found in scores.parts.items()} == {
        name: set(found) for name, found in values.items()
    }
    for of_network, metrics in scores.parts.items():
        for name, parts in metrics.items():
            of_parts = kd.of_parts if name == "kd" else METRICS[name].of_parts
            entry, found = values[of_network][name], of_parts(parts, torch.ones(1, 4)).item()
            assert found == pytest.approx(entry["value"], rel=1e-9, abs=1e-9)
            assert entry["interval"] == pytest.approx(interval(of_parts, parts)), (of_network, name)
    kept = load_file(tmp_path / "scores.safetensors")
    assert (
        sum(name.endswith("kd/target") for name in kept) == 1 and "teacher/kd/fake" not in kept
    )  # the identity's
    write_report(tmp_path)
    low, high = (f"{end:.2f}" for end in values["student"]["psnr"]["interval"])
    assert f"<small>{low} to {high}</small>" in (tmp_path / "report.html").read_text()
    (tmp_path / "scores.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="has no scores.safetensors.*ganshrink evaluate"):
        read_scores(tmp_path)


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


@pytest.mark.slow
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
