"""Checkpoints of the field's own code, whose modules are transcribed here, give the same pictures in our networks."""

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ganshrink import nets

NORMS = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}


class ResnetBlock(nn.Module):
    def __init__(self, dim: int, norm: type[nn.Module], *, dropout: bool, conv=None) -> None:
        super().__init__()
        conv = conv or functools.partial(nn.Conv2d, kernel_size=3, bias=norm is nn.InstanceNorm2d)
        layers = [nn.ReflectionPad2d(1), conv(dim, dim), norm(dim), nn.ReLU(True)]
        layers += [nn.Dropout(0.5)] if dropout else []
        layers += [nn.ReflectionPad2d(1), conv(dim, dim), norm(dim)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class ResnetGenerator(nn.Module):
    """pytorch-CycleGAN-and-pix2pix: one sequence of everything."""

    def __init__(self, ngf: int, blocks: int, norm: type[nn.Module], *, dropout: bool, conv=None) -> None:
        super().__init__()
        bias = norm is nn.InstanceNorm2d
        model = [nn.ReflectionPad2d(3), nn.Conv2d(3, ngf, 7, bias=bias), norm(ngf), nn.ReLU(True)]
        for i in range(2):
            inside, outside = ngf * 2**i, ngf * 2 ** (i + 1)
            conv_down = nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=bias)
            model += [conv_down, norm(outside), nn.ReLU(True)]
        model += [ResnetBlock(4 * ngf, norm, dropout=dropout, conv=conv) for _ in range(blocks)]
        for i in (2, 1):
            inside, outside = ngf * 2**i, ngf * 2 ** (i - 1)
            up = nn.ConvTranspose2d(inside, outside, 3, stride=2, padding=1, output_padding=1, bias=bias)
            model += [up, norm(outside), nn.ReLU(True)]
        model += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*model)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class SeparableConv2d(nn.Module):
    """GAN Compression's: its norm is an instance norm whatever the network's is."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(inside, inside, 3, groups=inside)
        self.conv = nn.Sequential(depthwise, nn.InstanceNorm2d(inside), nn.Conv2d(inside, outside, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class UnetSkipConnectionBlock(nn.Module):
    def __init__(
        self,
        outer: int,
        inner: int,
        norm: type[nn.Module],
        *,
        inside: int | None = None,
        submodule: nn.Module | None = None,
        outermost: bool = False,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.outermost = outermost
        bias = norm is nn.InstanceNorm2d
        how = {"kernel_size": 4, "stride": 2, "padding": 1}
        down = nn.Conv2d(inside or outer, inner, bias=bias, **how)
        if outermost:
            up = nn.ConvTranspose2d(inner * 2, outer, **how)
            model = [down, submodule, nn.ReLU(True), up, nn.Tanh()]
        elif submodule is None:
            up = nn.ConvTranspose2d(inner, outer, bias=bias, **how)
            model = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm(outer)]
        else:
            up = nn.ConvTranspose2d(inner * 2, outer, bias=bias, **how)
            model = [nn.LeakyReLU(0.2, True), down, norm(inner), submodule, nn.ReLU(True), up, norm(outer)]
            model += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*model)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UnetGenerator(nn.Module):
    def __init__(self, ngf: int, downs: int, norm: type[nn.Module], *, dropout: bool) -> None:
        super().__init__()
        block = UnetSkipConnectionBlock(8 * ngf, 8 * ngf, norm)
        for _ in range(downs - 5):
            block = UnetSkipConnectionBlock(8 * ngf, 8 * ngf, norm, submodule=block, dropout=dropout)
        for factor in (4, 2, 1):
            block = UnetSkipConnectionBlock(factor * ngf, 2 * factor * ngf, norm, submodule=block)
        self.model = UnetSkipConnectionBlock(3, ngf, norm, inside=3, submodule=block, outermost=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def trained(network: nn.Module) -> nn.Module:
    """As if trained: norms with scales, shifts and statistics that show when one is forgotten or swapped."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@torch.no_grad()
def assert_same_pictures(theirs: nn.Module, ours: nn.Module, file: Path, size: int, **more: Tensor) -> None:
    torch.save({**theirs.state_dict(), **more}, file)
    ours.load_state_dict(nets.load_weights(file, ours))
    x = torch.rand(2, 3, size, size) * 2 - 1
    wanted = theirs(x.clone())
    assert float(wanted.std()) > 0.01
    torch.testing.assert_close(ours.eval()(x), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["resnet6", "resnet9"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dropout", [False, True])
def test_residual_generators(name, norm, dropout, tmp_path):
    theirs = trained(ResnetGenerator(3, int(name[-1]), NORMS[norm], dropout=dropout))
    assert_same_pictures(theirs, nets.build(name, ngf=3, norm=norm), tmp_path / "latest_net_G.pth", 24)


def test_a_residual_generator_saved_by_an_old_torch(tmp_path):
    """Before torch 0.4, instance norms saved statistics that they did not use."""
    theirs = trained(ResnetGenerator(3, 9, nn.InstanceNorm2d, dropout=False))
    unused = {"running_mean": torch.ones(12), "running_var": torch.ones(12)}
    old = {
        f"model.{i}.conv_block.{j}.{k}": v for i in range(10, 19) for j in (2, 6) for k, v in unused.items()
    }
    assert_same_pictures(theirs, nets.build("resnet9", ngf=3), tmp_path / "latest_net_G.pth", 24, **old)


@pytest.mark.parametrize(("name", "downs"), [("unet128", 7), ("unet256", 8)])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dropout", [False, True])
def test_unets(name, downs, norm, dropout, tmp_path):
    theirs = trained(UnetGenerator(2, downs, NORMS[norm], dropout=dropout))
    assert_same_pictures(theirs, nets.build(name, ngf=2, norm=norm), tmp_path / "latest_net_G.pth", 2**downs)


def saved(network: nn.Module, folder: Path) -> Path:
    torch.save(network.state_dict(), folder / "latest_net_G.pth")
    return folder / "latest_net_G.pth"


@pytest.mark.parametrize("norm", NORMS)
def test_separable_generators(norm, tmp_path):
    theirs = trained(ResnetGenerator(3, 9, NORMS[norm], dropout=True, conv=SeparableConv2d))
    ours = nets.build("mobile_resnet9", ngf=3, norm=norm)
    assert_same_pictures(theirs, ours, tmp_path / "latest_net_G.pth", 24)


@pytest.mark.parametrize("name", ["resnet6", "unet256"])
def test_another_depth_is_refused(name, tmp_path):
    if name == "resnet6":
        file = saved(ResnetGenerator(3, 9, nn.InstanceNorm2d, dropout=False), tmp_path)
    else:
        file = saved(UnetGenerator(3, 7, nn.BatchNorm2d, dropout=False), tmp_path)
    with pytest.raises(ValueError, match="does not fit: "):
        nets.load_weights(file, nets.build(name, ngf=3))
