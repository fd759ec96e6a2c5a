"""Checkpoints of the field's own code, whose modules are transcribed here, give the same pictures in our networks."""

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganshrink import nets
from ganshrink.exporters import export_onnx
from ganshrink.graph import trace
from ganshrink.nets.checkpoint_file import read_networks
from ganshrink.nets.recognise import LAYOUTS, recognise
from ganshrink.pruning import Plan, extract, zeroed
from telling import rest_exhaustive

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


class Blur(nn.Module):
    """CUT's filters, along rows and then along columns."""

    def __init__(self, channels: int, row: list[float], *, up: bool) -> None:
        super().__init__()
        self.up, line = up, torch.tensor(row) / sum(row) * (2 if up else 1)
        self.register_buffer("filt", (line[:, None] * line).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        line = self.filt[0, 0].sum(0) / self.filt[0, 0].sum() ** 0.5
        if not self.up:
            x = F.pad(x, (1, 1, 1, 1), mode="reflect")
            for shape in ((1, -1), (-1, 1)):
                kernel = line.reshape(1, 1, *shape).repeat(x.shape[1], 1, 1, 1)
                x = F.conv2d(x, kernel, groups=x.shape[1])
            return x[..., ::2, ::2]
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        wide[..., ::2, ::2] = x  # zeros between pixels, then the filter
        for shape in ((1, -1), (-1, 1)):
            kernel = line.reshape(1, 1, *shape).repeat(x.shape[1], 1, 1, 1)
            wide = F.conv2d(wide, kernel, groups=x.shape[1])
        return wide[..., : 2 * (x.shape[2] - 2), : 2 * (x.shape[3] - 2)]


class ResnetGenerator(nn.Module):
    """pytorch-CycleGAN-and-pix2pix: one sequence of everything; with blurs it is CUT's, with four halvings pix2pixHD's."""

    def __init__(
        self,
        ngf: int,
        blocks: int,
        norm: type[nn.Module],
        *,
        dropout: bool,
        conv=None,
        halvings=2,
        blur=False,
    ) -> None:
        super().__init__()
        bias = norm is nn.InstanceNorm2d
        model = [nn.ReflectionPad2d(3), nn.Conv2d(3, ngf, 7, bias=bias), norm(ngf), nn.ReLU(True)]
        for i in range(halvings):
            inside, outside = ngf * 2**i, ngf * 2 ** (i + 1)
            conv_down = nn.Conv2d(inside, outside, 3, stride=1 if blur else 2, padding=1, bias=bias)
            model += [conv_down, norm(outside), nn.ReLU(True)]
            model += [Blur(outside, [1, 2, 1], up=False)] if blur else []
        model += [ResnetBlock(ngf * 2**halvings, norm, dropout=dropout, conv=conv) for _ in range(blocks)]
        for i in range(halvings, 0, -1):
            inside, outside = ngf * 2**i, ngf * 2 ** (i - 1)
            if blur:
                model += [
                    Blur(inside, [1, 3, 3, 1], up=True),
                    nn.Conv2d(inside, outside, 3, padding=1, bias=bias),
                ]
            else:
                model += [nn.ConvTranspose2d(inside, outside, 3, 2, padding=1, output_padding=1, bias=bias)]
            model += [norm(outside), nn.ReLU(True)]
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
def assert_same_pictures(
    theirs: nn.Module, ours: nn.Module, file: Path, size: int, *, layout: bool = True, **more: Tensor
) -> None:
    """In our network, and in the one that is recognised; `layout`: whether the names tell whose it is."""
    torch.save({**theirs.state_dict(), **more}, file)
    ours.load_state_dict(nets.load_weights(file, ours))
    x = torch.rand(2, 3, size, size) * 2 - 1
    wanted = theirs(x.clone())
    assert float(wanted.std()) > 0.01
    torch.testing.assert_close(ours.eval()(x), wanted, atol=1e-5, rtol=0)
    found = recognise(read_networks(file)[""])  # and without being told what it is
    again = nets.build(found.name, **found.options)
    again.load_state_dict(found.fit.state)
    torch.testing.assert_close(again.eval()(x), wanted, atol=1e-5, rtol=0)
    assert (found.layout in LAYOUTS.values()) == layout


@pytest.mark.parametrize("name", ["resnet6", "resnet9"])
@pytest.mark.parametrize("norm", rest_exhaustive(NORMS, "instance".__eq__))
@pytest.mark.parametrize("dropout", [pytest.param(False, marks=pytest.mark.exhaustive), True])
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
@pytest.mark.parametrize("dropout", rest_exhaustive([False, True], [True].__contains__))
def test_unets(name, downs, norm, dropout, tmp_path):
    theirs = trained(UnetGenerator(2, downs, NORMS[norm], dropout=dropout))
    assert_same_pictures(theirs, nets.build(name, ngf=2, norm=norm), tmp_path / "latest_net_G.pth", 2**downs)


def saved(network: nn.Module, folder: Path) -> Path:
    torch.save(network.state_dict(), folder / "latest_net_G.pth")
    return folder / "latest_net_G.pth"


@pytest.mark.parametrize("norm", rest_exhaustive(NORMS, "instance".__eq__))
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


@pytest.mark.parametrize("norm", NORMS)
def test_cut_s_generator_without_aliasing(norm, tmp_path):
    theirs = trained(ResnetGenerator(3, 9, NORMS[norm], dropout=False, blur=True))
    ours = nets.build("resnet9", ngf=3, norm=norm, antialias=True)
    assert_same_pictures(theirs, ours, tmp_path / "latest_net_G.pth", 24)


@pytest.mark.slow
def test_pix2pixhd_s_global_generator(tmp_path):
    theirs = trained(ResnetGenerator(2, 9, nn.InstanceNorm2d, dropout=False, halvings=4))
    assert_same_pictures(theirs, nets.build("resnet9", ngf=2, halvings=4), tmp_path / "latest_net_G.pth", 48)


class LocalEnhancer(nn.Module):
    """pix2pixHD's: a global generator without its last three modules, and `model{n}_1`, `model{n}_2` for each doubling."""

    def __init__(self, ngf: int, enhancers: int) -> None:
        super().__init__()
        self.enhancers, norm = enhancers, nn.InstanceNorm2d
        whole = ResnetGenerator(ngf * 2**enhancers, 2, norm, dropout=False, halvings=2).model
        self.model = nn.Sequential(*[whole[i] for i in range(len(whole) - 3)])
        for n in range(1, enhancers + 1):
            width = ngf * 2 ** (enhancers - n)
            down = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), norm(width), nn.ReLU(True)]
            down += [nn.Conv2d(width, 2 * width, 3, 2, 1), norm(2 * width), nn.ReLU(True)]
            up = [ResnetBlock(2 * width, norm, dropout=False) for _ in range(3)]
            up += [
                nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1),
                norm(width),
                nn.ReLU(True),
            ]
            if n == enhancers:
                up += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh()]
            setattr(self, f"model{n}_1", nn.Sequential(*down))
            setattr(self, f"model{n}_2", nn.Sequential(*up))

    def forward(self, x: Tensor) -> Tensor:
        pyramid = [x]
        for _ in range(self.enhancers):
            pyramid.append(F.avg_pool2d(pyramid[-1], 3, 2, 1, count_include_pad=False))
        y = self.model(pyramid[-1])
        for n in range(1, self.enhancers + 1):
            below = getattr(self, f"model{n}_1")(pyramid[self.enhancers - n])
            y = getattr(self, f"model{n}_2")(below + y)
        return y


@pytest.mark.parametrize("enhancers", rest_exhaustive([1, 2], (1).__eq__))
def test_pix2pixhd_s_local_enhancer(enhancers, tmp_path):
    theirs = trained(LocalEnhancer(2, enhancers))
    options = {"ngf": 2, "blocks": 2, "halvings": 2, "enhancers": enhancers}
    ours = nets.build("pix2pixhd_local", **options)
    assert_same_pictures(theirs, ours, tmp_path / "latest_net_G.pth", 48)


@torch.no_grad()
def test_a_local_enhancer_begins_with_a_trained_global_generator():
    whole = nets.build("pix2pixhd", ngf=4, blocks=1, halvings=2)
    ours = nets.build("pix2pixhd_local", ngf=2, blocks=1, halvings=2)
    left = ours.coarse.load_state_dict(whole.state_dict(), strict=False)
    assert not left.missing_keys and left.unexpected_keys == ["up.7.weight", "up.7.bias"]
    x, seen = torch.rand(1, 3, 32, 32), []
    ours.coarse.register_forward_hook(lambda module, inputs, output: seen.append((*inputs, output)))
    ours(x)
    [(small, features)] = seen
    torch.testing.assert_close(whole.up[-3:](features), whole(small))


class ResidualDenseBlock(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for i in range(1, 6):
            outside = width if i == 5 else growth
            setattr(self, f"conv{i}", nn.Conv2d(width + (i - 1) * growth, outside, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        act = nn.LeakyReLU(0.2)
        x1 = act(self.conv1(x))
        x2 = act(self.conv2(torch.cat((x, x1), 1)))
        x3 = act(self.conv3(torch.cat((x, x1, x2), 1)))
        x4 = act(self.conv4(torch.cat((x, x1, x2, x3), 1)))
        return self.conv5(torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x


class RRDB(nn.Module):
    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        for name in names:
            setattr(self, name, ResidualDenseBlock(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for name in self.names:
            out = getattr(self, name)(out)
        return out * 0.2 + x


class RRDBNet(nn.Module):
    """BasicSR's, and ESRGAN's with its own names for the same."""

    def __init__(self, scale: int, *, old: bool) -> None:
        super().__init__()
        self.scale, blocks = scale, "RDB1 RDB2 RDB3" if old else "rdb1 rdb2 rdb3"
        self.parts = "conv_first RRDB_trunk trunk_conv upconv1 upconv2 HRconv conv_last" if old else (
            "conv_first body conv_body conv_up1 conv_up2 conv_hr conv_last"
        )  # fmt: skip
        first, body, *others, last = self.parts.split()
        setattr(self, first, nn.Conv2d(3 * (4 // scale) ** 2, 6, 3, 1, 1))
        setattr(self, body, nn.Sequential(*(RRDB(blocks.split()) for _ in range(2))))
        for name in others:
            setattr(self, name, nn.Conv2d(6, 6, 3, 1, 1))
        setattr(self, last, nn.Conv2d(6, 3, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        first, body, after, up1, up2, hr, last = (getattr(self, name) for name in self.parts.split())
        act = nn.LeakyReLU(0.2)
        if self.scale != 4:
            x = nn.PixelUnshuffle(4 // self.scale)(x)
        feat = first(x)
        feat = feat + after(body(feat))
        for up in (up1, up2):
            feat = act(up(feat.repeat_interleave(2, 2).repeat_interleave(2, 3)))
        return last(act(hr(feat)))


@pytest.mark.parametrize(("scale", "old"), [(4, False), (2, False), (1, False), (4, True)])
def test_rrdb_generators(scale, old, tmp_path):
    torch.manual_seed(1)
    theirs = RRDBNet(scale, old=old).eval()
    ours = nets.build("rrdb", ngf=6, growth=2, blocks=2, scale=scale)
    assert_same_pictures(theirs, ours, tmp_path / "RealESRGAN_x4plus.pth", 16)
    if not old:
        assert list(nets.build("rrdb", ngf=6, growth=2, blocks=2, scale=scale).state_dict()) == list(
            theirs.state_dict()
        )


class SRVGGNetCompact(nn.Module):
    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.body = nn.ModuleList([nn.Conv2d(3, 8, 3, 1, 1), nn.PReLU(8)])
        for _ in range(4):
            self.body += [nn.Conv2d(8, 8, 3, 1, 1), nn.PReLU(8)]
        self.body.append(nn.Conv2d(8, 3 * scale**2, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.body:
            out = layer(out)
        base = x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return nn.PixelShuffle(self.scale)(out) + base


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_compact_super_resolution_generators(scale, tmp_path):
    torch.manual_seed(1)
    theirs = SRVGGNetCompact(scale).eval()
    nn.init.uniform_(theirs.body[1].weight)
    ours = nets.build("srvgg", ngf=8, convs=4, scale=scale)
    assert_same_pictures(theirs, ours, tmp_path / "realesr.pth", 12, layout=False)  # `body.N` may be anyone's
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_batch_norms_that_ran_in_training_mode_are_instance_norms_at_batch_1(tmp_path):
    """pix2pix's own test does not call eval(): each picture is normalised by its own statistics."""
    for theirs, name, size in (
        (UnetGenerator(2, 7, nn.BatchNorm2d, dropout=False), "unet128", 128),
        (ResnetGenerator(3, 6, nn.BatchNorm2d, dropout=False), "resnet6", 24),
    ):
        torch.save(trained(theirs).state_dict(), tmp_path / "latest_net_G.pth")
        ours = nets.build(name, ngf=2 if name == "unet128" else 3, norm="instance", affine=True)
        ours.load_state_dict(nets.load_weights(tmp_path / "latest_net_G.pth", ours))
        x = torch.rand(1, 3, size, size) * 2 - 1
        with torch.no_grad():
            torch.testing.assert_close(ours.eval()(x), theirs.train()(x.clone()), atol=1e-4, rtol=0)


class Spade(nn.Module):
    """NVlabs' SPADE, for labels in four channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.param_free_norm = nn.BatchNorm2d(width, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU())
        self.mlp_gamma, self.mlp_beta = (nn.Conv2d(8, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        factor = labels.shape[2] // x.shape[2]
        seen = self.mlp_shared(labels[:, :, ::factor, ::factor])
        return self.param_free_norm(x) * (1 + self.mlp_gamma(seen)) + self.mlp_beta(seen)


class SpadeBlock(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        spectral, middle = nn.utils.spectral_norm, min(inside, outside)
        self.conv_0 = spectral(nn.Conv2d(inside, middle, 3, padding=1))
        self.conv_1 = spectral(nn.Conv2d(middle, outside, 3, padding=1))
        if inside != outside:
            self.conv_s = spectral(nn.Conv2d(inside, outside, 1, bias=False))
        self.norm_0, self.norm_1 = Spade(inside), Spade(middle)
        if inside != outside:
            self.norm_s = Spade(inside)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = self.conv_0(F.leaky_relu(self.norm_0(x, labels), 0.2))
        y = self.conv_1(F.leaky_relu(self.norm_1(y, labels), 0.2))
        return (self.conv_s(self.norm_s(x, labels)) if hasattr(self, "conv_s") else x) + y


class SpadeGenerator(nn.Module):
    def __init__(self, nf: int, doublings: int, styles: int = 0) -> None:
        super().__init__()
        self.doublings, self.fc = doublings, nn.Conv2d(4, 16 * nf, 3, padding=1)
        if styles:  # --use_vae, for 64 x 128 pixels
            self.fc = nn.Linear(styles, 16 * nf * 1 * 2)
        self.head_0, self.G_middle_0, self.G_middle_1 = (SpadeBlock(16 * nf, 16 * nf) for _ in range(3))
        self.up_0, self.up_1 = SpadeBlock(16 * nf, 8 * nf), SpadeBlock(8 * nf, 4 * nf)
        self.up_2, self.up_3 = SpadeBlock(4 * nf, 2 * nf), SpadeBlock(2 * nf, nf)
        self.conv_img = nn.Conv2d(nf, 3, 3, padding=1)

    def forward(self, labels: Tensor, z: Tensor | None = None) -> Tensor:
        def double(x: Tensor) -> Tensor:
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

        factor = 2**self.doublings
        first = self.fc(labels[:, :, ::factor, ::factor]) if z is None else self.fc(z).view(len(z), -1, 1, 2)
        x = self.head_0(first, labels)
        x = self.G_middle_0(double(x), labels)
        x = self.G_middle_1(double(x) if self.doublings == 6 else x, labels)
        for block in (self.up_0, self.up_1, self.up_2, self.up_3):
            x = block(double(x), labels)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


@pytest.mark.slow
@pytest.mark.parametrize("doublings", [pytest.param(5, marks=pytest.mark.exhaustive), 6])
@torch.no_grad()
def test_gaugan_s_generator(doublings, tmp_path):
    """Folded, and with its spectral norms as they are, as a teacher that goes on training has them."""
    torch.manual_seed(0)
    theirs = SpadeGenerator(2, doublings)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    labels = torch.randn(2, 4, 64, 128)
    torch.save(theirs.eval().state_dict(), tmp_path / "latest_net_G.pth")
    found = recognise(theirs.state_dict())
    assert (found.name, found.layout) == ("gaugan", "SPADE")
    assert found.options == {"in_channels": 4, "ngf": 2, "hidden": 8, "spectral": False}
    options = {**found.options, "doublings": doublings}
    for spectral in (False, True):
        ours = nets.build("gaugan", **options | {"spectral": spectral}).eval()
        ours.load_state_dict(nets.load_weights(tmp_path / "latest_net_G.pth", ours))
        torch.testing.assert_close(ours(labels), theirs(labels))
    torch.save(ours.state_dict(), tmp_path / "ours.pth")
    ours.load_state_dict(nets.load_weights(tmp_path / "ours.pth", ours))
    torch.testing.assert_close(ours(labels), theirs(labels))


@pytest.mark.slow
@pytest.mark.exhaustive
@torch.no_grad()
def test_gaugan_with_styles_loads_is_cut_and_exports(tmp_path):
    torch.manual_seed(0)
    theirs = SpadeGenerator(2, 6, styles=5).eval()
    labels, styles = torch.randn(2, 4, 64, 128), torch.randn(2, 5)
    torch.save(theirs.state_dict(), tmp_path / "latest_net_G.pth")
    found = recognise(theirs.state_dict())
    wanted = {
        "in_channels": 4,
        "ngf": 2,
        "hidden": 8,
        "spectral": False,
        "styles": 5,
        "height": 64,
        "width": 128,
    }
    assert (found.name, found.options) == ("gaugan", wanted)
    ours = nets.build("gaugan", **wanted).eval()
    ours.load_state_dict(found.fit.state)
    torch.testing.assert_close(ours(labels, styles), theirs(labels, styles))
    channels = trace(ours, labels[:1], styles[:1])
    plan = Plan.random(channels, 0.5, seed=0)
    student = extract(ours, channels, plan)
    torch.testing.assert_close(student(labels, styles), zeroed(ours, channels, plan)(labels, styles))
    assert student.fc.out_features < ours.fc.out_features
    entry = export_onnx(
        student, (labels[:1], styles[:1]), tmp_path / "student.onnx", inputs=[(labels[0], styles[0])]
    )
    assert entry["psnr_db"] > 90


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, 2, "with styles = 0 it takes a map$"),
        ({"styles": 3, "height": 32, "width": 32}, 1, "with styles = 3 it takes a map and a style"),
        (
            {"styles": 3, "height": 48, "width": 32},
            1,
            "height and width must be multiples of 32, got 48 and 32",
        ),
    ],
)
def test_a_gaugan_says_what_it_takes(options, given, message):
    with pytest.raises(ValueError, match=message):
        network = nets.build("gaugan", ngf=1, in_channels=2, hidden=2, doublings=5, **options)
        network(*(torch.zeros(1, 2, 32, 32), torch.zeros(1, 3))[:given])
