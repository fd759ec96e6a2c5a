"""The judging networks: shapes, counts, preprocessing, and strict weights files."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from ganshrink.metrics.segmenters import load_espnet
from ganshrink.metrics.segmenters.espnet import MEAN_BGR as ESPNET_MEAN
from ganshrink.metrics.segmenters.espnet import STD_BGR, ESPNet, preprocess
from ganshrink.metrics.squeezenet import SqueezeNet, convert_torchvision, load_squeezenet
from ganshrink.metrics.weights import find_weights, short_hash


def test_squeezenet_is_the_published_network() -> None:
    network = SqueezeNet()
    assert len(network.state_dict()) == 50
    assert (
        sum(p.numel() for p in network.parameters()) == 722_496
    )  # torchvision's 1,235,496 less its classifier
    with torch.no_grad():
        trunk = network.features(torch.zeros(1, 3, 227, 227))
    assert trunk.shape == (1, 512, 14, 14)  # with ceil_mode; without it 13x13


def test_squeezenet_preprocessing() -> None:
    network = SqueezeNet()
    red = torch.zeros(1, 3, 40, 30, dtype=torch.uint8)
    red[:, 0] = 200
    seen = network.preprocess(red)
    assert seen.shape == (1, 3, 227, 227)
    expected = torch.tensor([-104.0, -117.0, 200.0 - 123.0])  # BGR less the Caffe mean
    torch.testing.assert_close(seen.mean(dim=(0, 2, 3)), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(network.preprocess(red.float() / 127.5 - 1), seen, atol=1e-4, rtol=0)


def test_shrinking_is_antialiased() -> None:
    stripes = torch.zeros(
        1, 3, 908, 908, dtype=torch.uint8
    )  # four times too large: every output sees two stripes
    stripes[..., ::2] = 200
    seen = SqueezeNet().preprocess(stripes)[..., 2:-2] + SqueezeNet().mean
    torch.testing.assert_close(seen, torch.full_like(seen, 100.0), atol=1.0, rtol=0)


def test_squeezenet_features_are_the_mean_of_the_trunk(weights: Path) -> None:
    loaded = load_squeezenet("squeezenet11_features.safetensors")
    assert (loaded.dim, loaded.sha256) == (512, short_hash(weights / "squeezenet11_features.safetensors"))
    images = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    assert isinstance(loaded.module, SqueezeNet)
    trunk = loaded.module.features(loaded.module.preprocess(images))
    features = loaded.module(images)
    assert features.shape == (2, 512)
    torch.testing.assert_close(features, trunk.flatten(2).mean(2))
    assert not features.requires_grad
    assert not loaded.module.training


def test_converted_torchvision_weights_give_torchvisions_features() -> None:
    """The preprocessing is folded into the first conv, so both networks see the same thing."""
    torch.manual_seed(0)
    theirs, ours = SqueezeNet(), SqueezeNet()
    classifier = {"classifier.1.weight": torch.zeros(1000, 512, 1, 1), "classifier.1.bias": torch.zeros(1000)}
    ours.load_state_dict(convert_torchvision({**theirs.state_dict(), **classifier}))
    images = torch.randint(0, 256, (2, 3, 227, 227), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        expected = theirs.features(normalised).mean(dim=(2, 3))
        torch.testing.assert_close(ours(images), expected, atol=1e-4, rtol=1e-3)


def test_espnet_is_the_published_network() -> None:
    network = ESPNet()
    weights = {
        name: w for name, w in network.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    assert len(weights) == 189
    assert sum(w.numel() for w in weights.values()) == 358_193  # with running statistics
    assert sum(p.numel() for p in network.parameters()) == 354_517
    expected = {
        "encoder.level2.1.bn.act.weight",
        "encoder.level3.7.d16.conv.weight",
        "encoder.level3_0.c1.conv.weight",
        "combine_l2_l3.1.bn.bn.running_var",
        "up_l2.1.act.weight",
        "level3_C.conv.weight",
        "br.bias",
        "classifier.weight",
    }
    assert expected <= weights.keys()


def test_espnet_output_has_the_inputs_size() -> None:
    network = ESPNet().eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 40)).shape == (2, 12, 64, 40)


def test_every_norm_has_the_released_epsilon() -> None:
    assert {module.eps for module in ESPNet().modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}


def test_espnet_preprocessing() -> None:
    blue = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    blue[:, 2] = 255
    seen = preprocess(blue)
    assert seen.shape == (1, 3, 360, 480)
    rest = [-m / s / 255 for m, s in zip(ESPNET_MEAN, STD_BGR, strict=True)]
    expected = torch.tensor([(255 - ESPNET_MEAN[0]) / STD_BGR[0] / 255, rest[1], rest[2]])
    torch.testing.assert_close(seen[0, :, 100, 100], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_the_segmenter_resizes_scores_to_the_labels(weights: Path) -> None:
    segmenter = load_espnet("espnet_camvid.safetensors")
    network = ESPNet().eval()
    torch.manual_seed(0)
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    predicted = segmenter.predict(images, (32, 24))
    assert (predicted.shape, predicted.dtype) == ((1, 32, 24), torch.int64)
    network.load_state_dict(load_file(weights / "espnet_camvid.safetensors"), strict=False)
    with torch.no_grad():
        scores = F.interpolate(
            network(preprocess(images)), size=(32, 24), mode="bilinear", align_corners=False
        )
    # Not equal: the memory layout may turn a near tie of random scores.
    assert (predicted == scores.argmax(1)).float().mean() > 0.999
    assert (segmenter.classes, segmenter.void) == (12, 11)


def test_a_missing_file_names_the_path_and_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"no weights file .*/nope.safetensors .*torchvision's squeezenet1_1"
    ):
        load_squeezenet("nope.safetensors")
    monkeypatch.delenv("GANSHRINK_WEIGHTS")
    with pytest.raises(FileNotFoundError, match=r"GANSHRINK_WEIGHTS is not set.*public CamVid release"):
        load_espnet("nope.safetensors")


def test_an_absolute_path_does_not_depend_on_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANSHRINK_WEIGHTS", "/elsewhere")
    file = tmp_path / "w.safetensors"
    file.touch()
    assert find_weights(file, origin="") == file


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(ESPNet().state_dict(), file)
    with pytest.raises(ValueError, match=r"does not fit SqueezeNet: 50 tensors are missing"):
        load_squeezenet(file)
    state = SqueezeNet().state_dict()
    save_file({**state, "classifier.1.bias": torch.zeros(1000)}, file)
    with pytest.raises(ValueError, match="1 tensors are not of this network, the first is classifier.1.bias"):
        load_squeezenet(file)
    save_file({**state, "features.0.bias": torch.zeros(96)}, file)
    with pytest.raises(ValueError, match=r"features.0.bias is \(96,\), expected \(64,\)"):
        load_squeezenet(file)
    file.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_squeezenet(file)
