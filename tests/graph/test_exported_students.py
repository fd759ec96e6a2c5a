"""What is cut through norms over channels, or by widths in attributes, leaves as a file: any size, and batch."""

import pytest
import torch
from activated_kernels import NETWORKS as ACTIVATED
from over_channels import NETWORKS as OVER_CHANNELS
from test_statistics import woken
from widths_in_attributes import NETWORKS as IN_ATTRIBUTES

from ganshrink.exporters import export_onnx
from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract

# MUNIT's batch norm in training mode is refused as a file, cut or not.
NETWORKS = {
    name: make for name, make in (OVER_CHANNELS | IN_ATTRIBUTES | ACTIVATED).items() if name != "MUNIT"
}


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_student_is_exported_with_parity(name, tmp_path):
    torch.manual_seed(0)
    model, x = woken(NETWORKS[name]()), torch.randn(1, 3, 32, 32)
    channels = trace(model, x)
    student = extract(model, channels, Plan.random(channels, 0.5))
    # a kernel per image makes as many groups as images: ONNX has their number in the file
    options = {"dynamic_batch": name not in ACTIVATED, "dynamic_size": True}
    assert export_onnx(student, x, tmp_path / "student.onnx", **options)["psnr_db"] > 60
