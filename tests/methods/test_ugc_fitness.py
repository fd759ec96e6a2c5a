"""By what UGC compares subnets: scores are what `evaluate` gives on the held-out images, and candidates leave no trace."""

import os
from pathlib import Path

import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ganshrink.data import Images, TensorInputs, TensorPairs
from ganshrink.methods.ugc.fitness import chosen, inputs_of, judge_of
from ganshrink.metrics import MetricsConfig, build, evaluate
from ganshrink.metrics.segmenters.espnet import ESPNet
from ganshrink.metrics.squeezenet import SqueezeNet

BY_JUDGE = ("fd_squeezenet", "kd_squeezenet", "miou")


def held(count: int = 11, labels: bool = True) -> Images:
    return (few.Labelled if labels else TensorInputs)(tiny.pictures(count, 5))


def pairs(count: int = 10) -> TensorPairs:
    return TensorPairs(list(zip(tiny.pictures(count, 0), tiny.pictures(count, 9), strict=True)))


def generator(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return tiny.seasoned(tiny.small())


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with judges of chance under the default names."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    judges = {"squeezenet11_features": SqueezeNet(), "espnet_camvid": ESPNet()}
    for name, network in judges.items():
        state = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
        save_file(state, folder / f"{name}.safetensors")
    return folder


def metrics(folder: Path, *names: str) -> MetricsConfig:
    files = {"squeezenet": folder / "squeezenet11_features.safetensors"}
    return MetricsConfig(names=names or None, segmenter_weights=folder / "espnet_camvid.safetensors", **files)


@pytest.mark.parametrize(
    ("fitness", "names", "labels", "expected"),
    [
        ("auto", ("psnr", "fd_squeezenet", "miou"), True, "miou"),
        ("auto", ("psnr", "fd_squeezenet", "miou"), False, "fd_squeezenet"),
        ("auto", ("kd_squeezenet", "fd_squeezenet"), True, "fd_squeezenet"),
        ("auto", ("kid", "kd_squeezenet"), False, "kd_squeezenet"),
        ("auto", ("kid", "fid"), False, "fid"),
        ("auto", ("kid",), False, "kid"),
        ("auto", ("psnr", "ssim_teacher", "fd_squeezenet_teacher"), True, "agreement"),
        ("auto", (), True, "agreement"),
        ("kid", ("miou",), True, "kid"),
        ("agreement", ("miou",), True, "agreement"),
        ("miou", (), True, "miou"),
    ],
)
def test_what_auto_comes_to(fitness, names, labels, expected):
    assert chosen(fitness, MetricsConfig(names=names or None), held(2, labels)) == expected


def test_miou_without_label_maps_is_refused():
    with pytest.raises(ValueError, match="method.fitness = 'miou' needs label maps") as error:
        chosen("miou", MetricsConfig(), held(2, labels=False))
    assert "\n" not in str(error.value)


def test_agreement_is_minus_the_mean_difference_to_the_largest_network_s_images():
    images, largest, other = held(), generator(1), generator(2)
    judge = judge_of("agreement", MetricsConfig(), images, pairs(), largest)
    assert judge.name == "agreement" and judge(largest) == 0
    with torch.no_grad():
        shown = torch.stack([images.sample(i, None)["input"] for i in range(len(images))])
        distance = (largest(shown).double() - other(shown).double()).abs().mean().item()
    assert judge(other) == pytest.approx(-distance, rel=1e-5) and distance > 0.01
    assert judge.natural(judge(other)) == pytest.approx(distance, rel=1e-5)


def from_scratch(
    name: str, config: MetricsConfig, network: nn.Module, images: Images, labelled: Images
) -> float:
    """The metric of the held-out inputs, and of other images' targets where it is a distance, by `evaluate` alone."""
    samples = [images.sample(index, None) for index in range(len(images))]
    batch = {key: torch.stack([s[key] for s in samples]) for key in ("input", "labels") if key in samples[0]}
    targets = torch.stack([labelled.sample(index, None)["target"] for index in range(len(labelled))])
    batches = [{**batch, "paired": False}, {"target": targets, "paired": False}]
    judge = build(config.model_copy(update={"names": (name,)}))
    [value] = evaluate(network, batches[:1] if name == "miou" else batches, judge).values()
    return value.value if name == "miou" else -value.value


@pytest.mark.parametrize("name", BY_JUDGE)
def test_a_score_is_the_metric_of_the_held_out_images_and_stays_it(weights, name):
    """However many are scored in between."""
    config, images, labelled = metrics(weights, name), held(2 if name == "miou" else 9), pairs(4)
    networks = [generator(1), generator(2)]
    judge = judge_of("auto", config, images, labelled, networks[0])
    assert judge.name == name
    first = [judge(network) for network in networks]
    again = [judge(network) for network in reversed(networks)]
    assert first == again[::-1] and first[0] != first[1]
    for score, network in zip(first, networks, strict=True):
        expected = from_scratch(name, config, network, images, labelled)
        assert score == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert judge.natural(score) == pytest.approx(abs(expected), rel=1e-4, abs=1e-6)
    assert (first[0] >= 0) == (name == "miou")


@pytest.mark.skipif(
    "GANSHRINK_WEIGHTS" not in os.environ, reason="GANSHRINK_WEIGHTS is not set: no released judges"
)
def test_a_released_judge_likes_the_targets_themselves_best():
    labelled = TensorPairs(pairs(8).pairs)
    images = TensorInputs([target for _, target in labelled.pairs])
    judge = judge_of("fd_squeezenet", MetricsConfig(), images, labelled, nn.Identity())
    assert judge(generator(1)) < judge(nn.Identity()) == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("name", ["agreement", "fd_squeezenet"])
def test_the_targets_of_held_out_images_are_not_looked_at(weights, name):
    """Where all images are labelled they have some, here useless ones."""
    shown = tiny.pictures(11, 5)
    useless = TensorPairs([(image, torch.full_like(image, torch.nan)) for image in shown])
    config, scores = metrics(weights), []
    for images in (TensorInputs(shown), useless):
        judge = judge_of(name, config, images, pairs(), generator(1))
        scores.append(judge(generator(2)))
    assert scores[0] == scores[1] != 0


def test_inputs_to_calibrate_on_are_spread_over_the_set_and_are_all_where_there_are_no_more():
    images = few.inputs(12)
    everything = [images.sample(index, None)["input"] for index in range(12)]

    def places(count: int) -> list[int]:
        seen: list[Tensor] = [image for (batch,) in inputs_of(images, count) for image in batch]
        return [next(i for i, other in enumerate(everything) if torch.equal(image, other)) for image in seen]

    assert places(3) == [0, 4, 8]
    assert places(12) == places(512) == list(range(12))
