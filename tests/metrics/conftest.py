"""Small judges: feature networks and weights files without any download."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.segmenters.espnet import ESPNet
from ganshrink.metrics.squeezenet import SqueezeNet
from ganshrink.metrics.st_lpips import ST_LPIPS_FILE, STLPIPS
from ganshrink.metrics.vgg import VGG, VGG19_NORMALISED


class Corner(nn.Module):
    """The top left pixel and its right neighbour of each picture as a 6-d feature: linear, so all is known."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures[:, :, 0, :2].float().flatten(1)


@pytest.fixture
def corner() -> FeatureNetwork:
    return FeatureNetwork("corner", Corner(), dim=6, resize="none", sha256="0" * 12)


def save_weights(network: nn.Module, file: Path) -> None:
    """As the released files are: without BatchNorm's counters."""
    state = network.state_dict()
    save_file({name: value for name, value in state.items() if "num_batches" not in name}, file)


def st_lpips_state() -> dict[str, Tensor]:
    """Random weights with the binomial filter and the heads' signs that the release has."""
    state = STLPIPS().state_dict()
    state["scaling_layer.scale"] += 0.5
    for name, tensor in state.items():
        if name.endswith("filt"):
            state[name] = tensor + torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1])) / 16
        if name.startswith("lin"):
            state[name] = tensor.abs()
    return state


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with random weights under the default names, which GANSHRINK_WEIGHTS points at."""
    torch.manual_seed(0)
    save_weights(SqueezeNet(), tmp_path / "squeezenet11_features.safetensors")
    save_weights(ESPNet(), tmp_path / "espnet_camvid.safetensors")
    save_weights(VGG(VGG19_NORMALISED).features, tmp_path / "vgg19norm_relu3_1.safetensors")
    torch.save(st_lpips_state(), tmp_path / ST_LPIPS_FILE)
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path))
    return tmp_path
