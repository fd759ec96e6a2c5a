"""Scores of images that were trained on say so: in metrics.json and in the report."""

import torch
from torch import nn

from ganshrink.data import TensorPairs
from ganshrink.metrics import MetricsConfig
from ganshrink.reports import write_report
from ganshrink.training.stages import Run
from ganshrink.workflow.outputs import write_metrics


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
