"""GauGAN's and pix2pixHD's losses against transcriptions, their discriminators, and two steps."""

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ganshrink.data import Batches, TensorPairs
from ganshrink.losses import feature_matching, weighted_distance
from ganshrink.metrics.vgg import VGG, VGG19, load_vgg19
from ganshrink.nets import build
from ganshrink.nets.instance_encoder import instance_means
from ganshrink.nets.patchgan import second_head
from ganshrink.training import FitConfig, fit
from ganshrink.training.tasks import GauGAN, GauGANConfig, Pix2PixHD, Pix2PixHDConfig


def small(kind: type = GauGAN, **changes: Any) -> Any:
    return kind(kind.Config(**({"ndf": 4, "d_layers": 1} | changes)))


def batches() -> Batches:
    """Labels in two channels, pictures in three."""
    labels = (torch.rand(6, 2, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    images = torch.cat([labels, 1 - labels[:, :1]], 1) * 2 - 1
    return Batches(TensorPairs(list(zip(labels, images, strict=True))), batch_size=2, seed=0)


def terms_of(task: Any, nets: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Every loss term of one step, without optimising."""
    context = task.forward(nets)(batches().at(0), 0, 0)
    updates = task.updates(nets)
    return {name: v for u in updates for terms in u.losses(context) for name, v in terms.items()}


def generator() -> nn.Module:
    torch.manual_seed(2)
    return build("resnet9", in_channels=2, ngf=4, blocks=1)


def test_the_papers_defaults_make_the_published_discriminators():
    for task, scales in ((GauGAN(), 2), (Pix2PixHD(Pix2PixHDConfig(d_scales=2)), 2), (Pix2PixHD(), 3)):
        nets = task.nets(nn.Identity(), 36, 3)
        params = sum(p.numel() for p in nets["D"].parameters())
        assert params == pytest.approx(5.603e6 * scales / 2, abs=2e3)
    assert GauGANConfig().lr_d == 4 * GauGANConfig().lr == 4e-4


@pytest.mark.parametrize(("kind", "weight"), [(GauGAN, 1), (Pix2PixHD, 0.5)])
def test_terms_equal_the_papers(kind, weight):
    task = small(kind)
    nets = task.nets(generator(), 2, 3)
    nets["D"].eval()  # so that no pass turns the vectors of spectral norms
    terms = terms_of(task, nets)
    x, y = batches().at(0)["input"], batches().at(0)["target"]
    fake = nets["G"](x)

    found: dict[str, list[torch.Tensor]] = {name: [] for name in terms}
    both = [torch.cat([x, fake], 1), torch.cat([x, y], 1)]
    for judge in nets["D"].judges:
        (a, b), features = both, 0.0
        for layer in judge.layers:
            a, b = layer(a), layer(b)
            features = features + ((a - b).abs().mean() if isinstance(layer, nn.LeakyReLU) else 0)
        lsgan = kind is Pix2PixHD
        found["G_gan"].append(((a - 1) ** 2).mean() if lsgan else -a.mean())
        found["G_feat"].append(10 * features * 4 / 2)  # of two layers; the papers' four have the weight 1
        found["D_real"].append(weight * (((b - 1) ** 2) if lsgan else (1 - b).relu()).mean())
        found["D_fake"].append(weight * ((a**2) if lsgan else (1 + a).relu()).mean())
        both = [F.avg_pool2d(one, 3, 2, 1, count_include_pad=False) for one in both]
    assert terms.keys() == {"G_gan", "G_feat", "D_real", "D_fake"}
    for name, scales in found.items():
        assert len(scales) == task.config.d_scales
        torch.testing.assert_close(terms[name], sum(scales) / len(scales))
    context = task.forward(nets)(batches().at(0), 0, 0)
    assert context.scores(context.fake).shape == (2, 1, 1, 1)
    torch.testing.assert_close(
        -context.scores(context.fake).mean(),
        sum(-layers[-1].mean() for layers in context.judged(context.fake)) / task.config.d_scales,
    )


def test_two_steps_move_both_nets_each_by_its_own_rate(tmp_path):
    task = small()
    nets = task.nets(generator(), 2, 3)
    assert [update.optimizers[0].param_groups[0]["lr"] for update in task.updates(nets)] == [1e-4, 4e-4]
    before = copy.deepcopy({name: list(net.parameters()) for name, net in nets.items()})
    how = FitConfig(epochs=1, decay_epochs=0, max_steps=2, accelerator="cpu")
    given: Any = {"forward": task.forward(nets), "directory": tmp_path, "progress": False}
    result = fit(nets, task.updates(nets), batches(), how, **given)
    assert result.steps == 2
    for name, net in nets.items():
        assert any(not torch.equal(a, b) for a, b in zip(before[name], net.parameters(), strict=True))


def test_a_student_learns_from_truth_with_its_teacher_looking_on():
    task = small().as_student_task(generator())
    nets = task.nets(generator(), 2, 3)
    assert terms_of(task, nets).keys() == {"G_gan", "G_feat", "D_real", "D_fake"}
    other = second_head(nets["D"], 1)
    for one, two in zip(nets["D"].judges, other.judges, strict=True):
        assert one.layers[0] is two.layers[0] and one.layers[2] is not two.layers[2]


@pytest.mark.slow
def test_vgg_19_sees_images_as_they_are(tmp_path):
    """Up to relu5_1, and in [-1, 1]."""
    torch.manual_seed(0)
    shapes = {name: t.shape for name, t in VGG(VGG19).state_dict().items()}
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    for name, tensor in state.items():
        if name.endswith("weight"):
            tensor[:, :3, 1, 1] = torch.rand(tensor.shape[0], 3)
    save_file(state | {"classifier.0.weight": torch.zeros(2, 2)}, path := tmp_path / "vgg.safetensors")
    network, images = load_vgg19(path), torch.rand(1, 3, 32, 32) * 2 - 1
    found = network(images)
    assert [tuple(t.shape[1:]) for t in found.values()] == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)
    ]  # fmt: skip
    wanted = F.conv2d(images, state["features.0.weight"], padding=1).relu()
    torch.testing.assert_close(found["relu1_1"], wanted)
    half = {name: t / 2 for name, t in found.items()}
    by_hand = sum(
        w * t.abs().mean() / 2 for w, t in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), found.values(), strict=True)
    )
    torch.testing.assert_close(weighted_distance(found, half), by_hand)
    task = small(vgg=str(path))
    assert [type(net).__name__ for net in task.frozen] == ["VGG"]
    nets = task.nets(nn.Conv2d(2, 3, 1), 2, 3)
    x, y = batches().at(0)["input"], batches().at(0)["target"]
    expected = 10 * weighted_distance(task.vgg(nets["G"](x)), task.vgg(y))
    torch.testing.assert_close(terms_of(task, nets)["G_vgg"], expected)


def test_an_encoder_of_instances_learns_with_its_generator():
    """Its means fill the last channels of G's input; D sees them, but teaches the encoder through G's image alone."""
    task = small(Pix2PixHD, features=1, nef=2)
    nets = task.nets(generator(), 2, 3)
    x, y = torch.randn(2, 2, 16, 32), torch.rand(2, 3, 16, 32) * 2 - 1
    instances = torch.arange(2).repeat(16).expand(2, 1, 16, 32)
    context = task.forward(nets)({"input": x, "target": y, "instances": instances}, 0, 0)
    made = instance_means(nets["E"].model(y), instances)
    torch.testing.assert_close(context.fake, nets["G"](torch.cat([x[:, :1], made], 1)))
    update = task.updates(nets)[0]
    trained = {id(p) for group in update.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for name in "GE" for p in nets[name].parameters()}
    sum(next(update.losses(context)).values()).backward()
    first = nets["E"].model[1].weight.grad
    assert first is not None and first.abs().max() > 0
    nets["E"].zero_grad(set_to_none=True)
    context.judged(y)[0][-1].sum().backward()
    assert nets["E"].model[1].weight.grad is None


def test_what_cannot_work_is_told_at_the_start():
    with pytest.raises(ValueError, match="nothing is left to learn from"):
        GauGANConfig(lambda_gan=0)
    with pytest.raises(FileNotFoundError, match="ganshrink fetch vgg19"):
        small(vgg="nowhere.pth").nets(generator(), 2, 3)


def test_features_of_other_scales_are_refused():
    layers = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)]
    with pytest.raises(ValueError, match="zip"):
        feature_matching([layers], [layers, layers])
