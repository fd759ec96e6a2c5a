"""Every network can be cut everywhere but at its ends; a cut network computes what the zeroed one does at the cost told."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.nets.incres_spade import IncBlock, IncSPADE
from ganshrink.nets.sagan import Attention
from ganshrink.pruning import Plan, extract, zeroed
from telling import rest_exhaustive

SMALL = {  # options, and the size of pictures: none where latent vectors come in
    "resnet9": ({"ngf": 8, "blocks": 2}, (16, 24)),
    "resnet6": ({"ngf": 8, "blocks": 1, "norm": "batch"}, (16, 24)),
    "mobile_resnet9": ({"ngf": 8, "blocks": 2, "affine": True}, (16, 24)),
    "unet256": ({"ngf": 8, "downs": 5}, (32, 64)),
    "unet128": ({"ngf": 8, "downs": 6, "norm": "instance"}, (128, 64)),
    "incres9": ({"ngf": 12, "blocks": 1, "norm": "batch_stats"}, (16, 24)),
    "cartoongan": ({"ngf": 8, "blocks": 2}, (16, 24)),
    "pix2pixhd": ({"ngf": 2, "blocks": 1}, (32, 64)),
    "pix2pixhd_local": ({"ngf": 2, "blocks": 1, "local_blocks": 1, "halvings": 2}, (32, 64)),
    "gaugan": ({"in_channels": 3, "ngf": 2, "hidden": 4, "doublings": 5}, (32, 64)),
    "incres_gaugan": ({"in_channels": 3, "ngf": 6, "hidden": 6, "doublings": 5}, (32, 64)),
    "mobile_gaugan": ({"in_channels": 3, "ngf": 2, "doublings": 5}, (32, 64)),
    "devicenet": ({"ngf": 4, "blocks": 2, "downs": 3}, (16, 24)),
    "rrdb": ({"ngf": 8, "growth": 4, "blocks": 1, "scale": 2}, (16, 24)),
    "srvgg": ({"ngf": 8, "convs": 2}, (16, 24)),
    "sagan": ({"latent": 6, "ngf": 16, "size": 16}, None),
    "stylegan2": ({"latent": 6, "ngf": 8, "size": 16}, None),
    "patchgan": ({"ndf": 8, "in_channels": 3}, (32, 48)),
}


def shaken(model: nn.Module) -> nn.Module:
    """Norms with random statistics, scales and shifts, so that a forgotten one shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias)
        if isinstance(module, Attention):
            module.gamma.fill_(0.5)
    return model.eval()


def test_every_network_is_here():
    assert set(SMALL) == set(nets.NETS)


def counted(model: nn.Module, x: torch.Tensor) -> int:
    """Without the products of attention, which are told apart."""
    model.requires_grad_(False)  # the counter looks for the gradient of whatever could have one
    with FlopCounterMode(display=False) as counter:
        model(x)
    return (counter.get_total_flops() - counter.get_flop_counts()["Global"].get(torch.ops.aten.bmm, 0)) // 2


class Inception(nn.Module):
    """One block of `incres_gaugan`, which has seven, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(6, 3, 1)
        self.block = IncBlock(12, 6, partial(IncSPADE, labels=3, norm="batch", hidden=2), norm="batch")

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        return self.last(self.block(self.first(labels[:, :, ::2, ::2]), labels))


@pytest.mark.exhaustive
@torch.no_grad()
def test_an_inception_block_under_a_map_is_cut_as_it_is_zeroed():
    torch.manual_seed(0)
    model, x = shaken(Inception()), torch.randn(2, 3, 8, 12)
    channels = trace(model, x[:1])
    for seed in range(3):
        plan = Plan.random(channels, 0.4, seed=seed)
        wanted = zeroed(model, channels, plan)(x)
        torch.testing.assert_close(extract(model, channels, plan)(x), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(SMALL, {"unet256", "srvgg", "patchgan"}.__contains__))
@torch.no_grad()
def test_extracted_equals_zeroed_and_costs_what_is_told(name):
    torch.manual_seed(0)
    options, size = SMALL[name]
    shape = (options["latent"],) if size is None else (3, *size)
    model = shaken(nets.build(name, **options))
    channels = trace(model, one := torch.randn(1, *shape))
    assert channels.cost().macs == counted(model, one)
    reasons = {group.frozen for group in channels.groups if group.frozen}
    wanted = {"it is an output of the model"} if name != "srvgg" else set()  # whose output adds its input
    assert reasons == wanted | {"it meets the model's input"}
    for seed, removed in enumerate((0.3, 0.5, 0.9)):
        plan = Plan.random(channels, removed, seed=seed)
        x = torch.randn(2, *shape)
        wanted = zeroed(model, channels, plan)(x)
        torch.testing.assert_close(
            (student := extract(model, channels, plan))(x), wanted, atol=1e-5, rtol=1e-4
        )
        assert float(wanted.std()) > 0
        cost = channels.cost(plan)
        assert cost.macs == counted(student, one)
        assert cost.params == sum(p.numel() for p in student.parameters())
        assert cost.bytes == sum(t.nbytes for t in student.state_dict().values())
