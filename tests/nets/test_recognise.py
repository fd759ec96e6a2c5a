"""Networks are recognised by the names and shapes of their tensors alone; every tensor fits, or the answer is no."""

import re

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.nets.recognise import Unknown, recognise

OURS = [
    ("resnet9", {"ngf": 2}),
    ("resnet6", {"ngf": 3, "norm": "batch", "in_channels": 1, "out_channels": 2}),
    ("resnet9", {"ngf": 4, "blocks": 2, "affine": True, "halvings": 3}),
    ("resnet9", {"ngf": 4, "blocks": 4, "antialias": True}),
    ("pix2pixhd_local", {"ngf": 2, "blocks": 2, "local_blocks": 1, "norm": "batch", "in_channels": 36}),
    ("pix2pixhd_local", {"ngf": 1, "local_blocks": 2, "enhancers": 2, "halvings": 1}),
    ("mobile_resnet9", {"ngf": 2, "norm": "batch"}),
    ("unet128", {"ngf": 2, "in_channels": 12}),
    ("unet256", {"ngf": 2, "norm": "instance", "downs": 6}),
    ("incres9", {"ngf": 4, "blocks": 2, "norm": "batch"}),
    ("cartoongan", {"ngf": 2, "blocks": 3, "kernel": 3}),
    ("rrdb", {"ngf": 4, "growth": 2, "blocks": 1, "in_channels": 1, "out_channels": 1, "scale": 2}),
    ("srvgg", {"ngf": 4, "convs": 3, "scale": 3}),
    ("patchgan", {"ndf": 4, "in_channels": 3, "layers": 4}),
]


@pytest.mark.parametrize(("name", "options"), OURS, ids=str)
def test_what_is_recognised_is_what_it_was(name, options):
    found = recognise(nets.build(name, **options).state_dict())
    assert (found.name, found.options) == (name, options)
    assert not found.fit.renamed


# Names that others give to the parts of the same network; their order is that of the network.
NAMES = {
    "tutorial": {"down.1": "initial.0", "down.2": "initial.1", "down": "down_blocks", "blocks": "residuals", "up": "last"},
    "encoder and decoder": {"down": "encoder.model", "blocks": "encoder.model", "up": "decoder.model"},
    "blocks of their own": {"body.1": "conv1", "body.2": "norm1", "body.5": "conv2", "body.6": "norm2"},
    "one sequence": {"down": "main", "blocks": "main.9", "up": "main.10"},
}  # fmt: skip


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_names_of_another_s_own(names, norm):
    ours = nets.build("resnet6", ngf=2, norm=norm, **({"affine": True} if norm == "instance" else {}))
    theirs = {}
    for name, tensor in ours.state_dict().items():
        for part, other in NAMES[names].items():
            name = re.sub(rf"(^|\.){re.escape(part)}\.", rf"\1{other}.", name, count=1)
        theirs[name] = tensor
    found = recognise(theirs)
    assert found.name == "resnet6" and found.options["ngf"] == 2 and found.fit.renamed
    assert all(torch.equal(found.fit.state[name], tensor) for name, tensor in ours.state_dict().items())


def test_statistics_of_old_instance_norms_are_not_taken_for_batch_norms():
    """Before torch 0.4 there was no counter beside them; convolutions before batch norms have no bias by habit."""
    network = nets.build("resnet6", ngf=2, affine=True)
    old = {}
    for name, tensor in network.state_dict().items():
        old[name] = tensor
        if name.endswith(".bias") and isinstance(network.get_submodule(name[:-5]), nn.InstanceNorm2d):
            old |= {name[:-4] + key: torch.ones(len(tensor)) for key in ("running_mean", "running_var")}
    assert len(old) > len(network.state_dict())
    found = recognise(old)
    assert found.options == {"ngf": 2, "affine": True}
    assert "running statistics of instance norms" in found.fit.notes[0]


def test_batch_norms_after_convolutions_with_a_bias():
    theirs = nets.build("resnet6", ngf=2, norm="batch").state_dict()
    for name in [name for name, tensor in theirs.items() if tensor.ndim == 4]:
        theirs.setdefault(name.removesuffix("weight") + "bias", torch.ones(theirs[name].shape[0]))
    ups = [name for name in theirs if name.startswith("up.") and theirs[name].ndim == 4][:2]
    theirs |= {name.removesuffix("weight") + "bias": torch.ones(theirs[name].shape[1]) for name in ups}
    assert recognise(theirs).options == {"ngf": 2, "norm": "batch"}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"conv1.conv.modulation.weight": torch.zeros(8, 8)}, "it looks like StyleGAN2, for which there is no"),
        ({"block_a.0.0.1.weight": torch.zeros(8, 3, 7, 7)}, "it looks like AnimeGANv2"),
        ({"fc.weight": torch.zeros(4, 4)}, "0 convolutions, first none, last none: no network of this package"),
        (dict(nn.Sequential(*(nn.Conv2d(4, 4, 5) for _ in range(8))).state_dict()), "8 convolutions, first .4, 4, 5, 5."),
    ],
)  # fmt: skip
def test_what_is_none_of_ours_is_told(state, message):
    with pytest.raises(Unknown, match=message):
        recognise(state)


def test_a_network_that_is_nearly_one_is_refused_with_the_difference():
    state = nets.build("resnet9", ngf=2, blocks=2).state_dict()
    state["blocks.2.body.1.weight"] = torch.zeros(8, 8, 3, 3)
    with pytest.raises(Unknown, match="no network of this package"):
        recognise(state)
    state = nets.build("resnet9", ngf=2, blocks=2).state_dict() | {"attention.gamma": torch.zeros(1)}
    with pytest.raises(Unknown, match="nearest is resnet9, but the network has no 'attention.gamma'"):
        recognise(state)


def test_spectral_norms_do_not_hide_a_network():
    network = nets.build("resnet6", ngf=2)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.utils.spectral_norm(module)
    found = recognise(network.eval().state_dict())
    assert (found.name, found.options) == ("resnet6", {"ngf": 2})
    x = torch.rand(1, 3, 16, 16)
    plain = nets.build("resnet6", ngf=2).eval()
    plain.load_state_dict(found.fit.state)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), network(x))
