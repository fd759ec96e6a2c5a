"""The table of published families: how each small network is made and what it takes. Tests and the benchmark read it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import activated_kernels
import computed_weights
import families_restoration as restoration
import families_translation as translation
import over_channels
import torch
import widths_in_attributes
from torch import Tensor, nn

from ganshrink import nets

SIDE = 32
IMAGE = (3, SIDE, SIDE)


@dataclass(frozen=True)
class Family:
    """`shapes` of the inputs without the batch; by input, `whole`: numbers from 0 to below it instead of noise; a mask of
    zeros and ones; or a one-hot map. `image` is the output that is exported, of several."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    whole: Mapping[int, int] = field(default_factory=dict)
    mask: int | None = None
    one_hot: int | None = None
    image: int = 0

    def inputs(self, images: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        out = []
        for i, shape in enumerate(self.shapes):
            if i in self.whole:
                out.append(torch.randint(self.whole[i], (images, *shape), generator=generator))
            elif i == self.mask:
                out.append((torch.rand((images, *shape), generator=generator) > 0.6).float())
            elif i == self.one_hot:
                labels = torch.randint(shape[0], (images, *shape[1:]), generator=generator)
                out.append(nn.functional.one_hot(labels, shape[0]).permute(0, 3, 1, 2).float())
            else:
                out.append(torch.rand((images, *shape), generator=generator) * 2 - 1)
        return tuple(out)


def released(name: str, **options: object) -> Callable[[], nn.Module]:
    return partial(nets.build, name, **options)


MASKED = (IMAGE, (1, SIDE, SIDE))
LABELS = ((4, SIDE, SIDE),)
FAMILIES: dict[str, Family] = {
    "CycleGAN ResNet-9": Family(released("resnet9", ngf=8)),
    "CUT ResNet, antialiased": Family(released("resnet6", ngf=8, antialias=True)),
    "pix2pix U-Net": Family(released("unet128", ngf=4), ((3, 128, 128),)),
    "CAT Inception-ResNet": Family(released("incres9", ngf=12)),
    "GAN Compression mobile ResNet": Family(released("mobile_resnet9", ngf=8)),
    "CartoonGAN": Family(released("cartoongan", ngf=8)),
    "AnimeGANv2": Family(over_channels.anime),
    "White-box cartoon": Family(translation.WhiteBox),
    "fast neural style": Family(translation.style_transfer),
    "pix2pixHD, two scales": Family(translation.Pix2PixHD),
    "pix2pixHD instance encoder": Family(translation.EncodesInstances, MASKED, {1: 4}),
    "StarGAN": Family(translation.StarGAN, (IMAGE, (5,))),
    "StarGAN v2": Family(translation.StarGAN2, (IMAGE, (8,))),
    "U-GAT-IT light": Family(translation.UGATIT),
    "MUNIT, AdaIN": Family(over_channels.MUNIT),
    "AttentionGAN": Family(translation.AttentionGAN),
    "SPADE": Family(translation.SPADE, LABELS, one_hot=0),
    "CAT Inception-SPADE": Family(translation.InceptionSpade, LABELS, one_hot=0),
    "SAGAN, spectral norm by hand": Family(translation.SAGAN, ((6,),)),
    "BigGAN-deep": Family(translation.BigGANDeep, ((6,), ()), {1: 10}),
    "StyleGAN2": Family(activated_kernels.StyleGAN2),
    "GFPGAN": Family(restoration.GFPGAN),
    "VQGAN decoder": Family(translation.VQGANDecoder, ((4, 8, 8),)),
    "DDPM U-Net": Family(translation.DDPM, (IMAGE, ()), {1: 1000}),
    "ESRGAN RRDB": Family(released("rrdb", ngf=8, blocks=2, growth=8)),
    "Real-ESRGAN compact (SRVGG)": Family(released("srvgg", ngf=16, convs=4)),
    "Real-ESRGAN x2, unshuffled": Family(released("rrdb", ngf=8, blocks=1, growth=8, scale=2)),
    "SRResNet": Family(restoration.srresnet),
    "EDSR": Family(restoration.EDSR),
    "RCAN": Family(restoration.RCAN),
    "IMDN": Family(restoration.IMDN),
    "ECBSR": Family(computed_weights.NETWORKS["ECBSR"]),
    "SwinIR": Family(restoration.SwinIR),
    "EfficientViT": Family(restoration.LiteAttention),
    "NAFNet": Family(restoration.NAFNet),
    "Restormer": Family(restoration.Restormer),
    "ConvNeXt": Family(over_channels.ConvNeXt),
    "FasterNet": Family(widths_in_attributes.NETWORKS["FasterNet"]),
    "RepVGG": Family(restoration.RepVGG),
    "FFDNet": Family(restoration.ffdnet),
    "Zero-DCE": Family(restoration.ZeroDCE),
    "DeblurGAN v2, FPN": Family(restoration.FPN),
    "DeepFill v2": Family(restoration.DeepFill, MASKED, mask=1, image=1),
    "AOT-GAN": Family(
        lambda: nn.Sequential(over_channels.conv(3, 16), restoration.AOT(16), over_channels.conv(16, 3))
    ),
    "LaMa, Fourier convolutions": Family(restoration.LaMa, MASKED, mask=1),
    "MODNet": Family(restoration.MODNet, image=2),
    "RVM, refinement by a condition": Family(restoration.DataDependent),
    "DeepLab v3+": Family(restoration.DeepLab),
    "U2-Net": Family(restoration.U2Net),
    "RIFE": Family(restoration.FlowWarp, (IMAGE, IMAGE)),
}
