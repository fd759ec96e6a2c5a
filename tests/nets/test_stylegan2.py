"""StyleGAN2 of CIFAR's size (Karras et al. 2020): its arithmetic, what it costs, and where masks act in it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.nets.stylegan2 import Gain, Modulated, ResidualJudge
from ganshrink.pruning.search.handles import norm_handles
from ganshrink.pruning.search.masks import maskable
from ganshrink.training.batch_norm import sees_its_batch


@torch.no_grad()
def test_a_modulated_convolution_is_the_paper_s_with_a_kernel_for_each_image():
    """Eqs. 1 and 3 as printed: kernels are scaled by the style of their input and divided by their own length."""
    torch.manual_seed(0)
    conv, x, style = Modulated(4, 5, 3), torch.randn(3, 4, 6, 7), torch.randn(3, 4)
    for image in range(3):
        kernel = conv.weight * style[image, None, :, None, None]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        wanted = F.conv2d(x[image : image + 1], kernel, padding=1)
        torch.testing.assert_close(conv(x, style)[image : image + 1], wanted)


@torch.no_grad()
def test_doubling_is_the_filter_of_the_paper():
    """Bilinear interpolation is zeros between pixels, then [1, 3, 3, 1] in both directions."""
    x = torch.randn(1, 2, 5, 6)
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = torch.outer(row, row).expand(2, 1, 4, 4)
    wanted = F.conv_transpose2d(
        F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, padding=3, groups=2
    )
    torch.testing.assert_close(F.interpolate(x, scale_factor=2.0, mode="bilinear"), wanted)


@torch.no_grad()
def test_a_gain_is_a_factor_and_a_summand_in_training_too():
    gain, x = Gain(3), torch.randn(4, 3, 2, 2)
    gain.weight.copy_(torch.tensor([2.0, 3.0, 4.0]))
    gain.bias.fill_(0.5)
    torch.testing.assert_close(gain.train()(x), gain.weight[:, None, None] * x + 0.5)
    assert not gain.running_mean.any() and not sees_its_batch(gain) and sees_its_batch(nn.BatchNorm2d(3))


def test_parameters_and_shapes():
    model = nets.build("stylegan2")
    assert sum(p.numel() for p in model.parameters()) == 2_661_196
    small = nets.build("stylegan2", ngf=2, size=16, latent=5)
    images = small(torch.randn(2, 5))
    assert images.shape == (2, 3, 16, 16)
    assert torch.equal(small.synthesis(small.mapping(z := torch.randn(2, 5))), small(z))
    assert ResidualJudge(ndf=2, layers=2)(images).shape == (2, 1, 1, 1)


@pytest.mark.slow
def test_masks_act_behind_demodulation_and_leave_every_layer_free():
    """What multiplies a kernel is divided out again; the gain after it is felt."""
    model = nets.build("stylegan2", latent=4, ngf=2, size=8).eval()
    channels = maskable(trace(model, torch.randn(1, 4)))
    made = [p for p in channels.producers if p.parameter.startswith("layers") and "conv" in p.parameter]
    assert made
    for producer in made:
        gain = producer.parameter.replace("conv.weight", "gain")
        handles = norm_handles(model, channels, producer)
        assert [handle.module for handle in handles] == 2 * [model.get_submodule(gain)]
    frozen = {group.frozen for group in channels.groups} - {None}
    assert frozen == {"it is an output of the model", "it meets the model's input"}


def test_a_norm_behind_a_factor_of_each_image_undoes_masks_before_it():
    """The same where the factor is a style's and the norm is a real one."""

    class Styled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.style, self.first, self.last = nn.Linear(3, 4), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3)
            self.norm = nn.InstanceNorm2d(4, affine=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = self.style(x.mean((2, 3)))[:, :, None, None]
            return self.last(self.norm(self.first(x) * scale))

    channels = trace(Styled().eval(), torch.randn(1, 3, 8, 8))
    [number] = [n for n, p in enumerate(channels.producers) if p.parameter == "first.weight"]
    assert channels.scales[number] == "norm.weight"


@pytest.mark.parametrize("size", [4, 24])
def test_another_size_is_refused(size):
    with pytest.raises(ValueError, match=f"size must be 8, 16, 32, ..., got {size}"):
        nets.build("stylegan2", size=size)
