"""Parameters of every network against the published integers; multiply-accumulates are in tests/channels."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganshrink import nets
from telling import rest_exhaustive


def meta(name: str, **options) -> nn.Module:
    with torch.device("meta"):
        return nets.build(name, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "params", "macs"),
    rest_exhaustive(
        [
            ("resnet9", {}, 11_378_179, 49_551_507_456),
            ("resnet9", {"ngf": 32}, 2_850_563, 12_696_158_208),
            ("resnet9", {"norm": "batch"}, 11_383_427, 49_551_507_456),
            ("unet256", {}, 54_413_955, 6_048_186_368),
            ("unet256", {"ngf": 48}, 30_611_427, 3_430_416_384),
            ("unet256", {"ngf": 32}, 13_608_259, 1_549_795_328),
            ("unet256", {"norm": "instance"}, 54_409_603, 6_048_186_368),
            ("incres9", {}, 8_154_255, 36_242_644_992),
            ("incres9", {"norm": "batch"}, 8_136_389, 36_242_644_992),
            ("resnet6", {}, 7_837_699, 35_055_992_832),
            ("unet128", {}, 41_828_995, 6_023_020_544),
            ("unet128", {"ngf": 16}, 2_617_507, 404_750_336),  # DECIG's U-Net-16, and so on
            ("unet128", {"ngf": 32}, 10_461_507, 1_543_503_872),
            ("unet128", {"ngf": 192}, 376_358_787, 53_301_215_232),
            ("mobile_resnet9", {}, 1_987_075, 11_066_671_104),
            ("mobile_resnet9", {"ngf": 48}, 1_130_883, 6_488_064_000),
            ("mobile_resnet9", {"ngf": 32}, 514_307, 3_117_416_448),
            ("cartoongan", {}, 11_129_667, 54_383_345_664),
            ("cartoongan", {"kernel": 3}, 11_114_307, 53_376_712_704),
            ("patchgan", {"ndf": 128}, 11_042_433, 12_572_491_776),
            ("resnet9", {"antialias": True}, 11_378_179, 64_127_787_008),
            ("resnet9", {"halvings": 4, "in_channels": 36}, 182_546_755, 61_165_535_232),
            ("rrdb", {}, 16_697_987, 1_174_853_910_528),
            ("srvgg", {"convs": 32}, 1_213_296, 79_234_596_864),
            ("srvgg", {}, 621_424, 40_579_891_200),
        ],
        lambda case: not case[1] and case[0] not in {"incres9", "rrdb"},
    ),
)
def test_parameters_and_macs_are_the_published_ones(name, options, params, macs):
    network = meta(name, **options)
    channels = options.get("in_channels", 6 if name == "patchgan" else 3)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, channels, 256, 256, device="meta"))
    assert sum(p.numel() for p in network.parameters()) == params
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "size", "params", "macs"),
    [
        ("gaugan", {"spectral": False}, (256, 512), 93_048_003, 281_276_612_608),
        ("incres_gaugan", {}, (256, 512), 55_592_325, 109_773_614_880),
        ("mobile_gaugan", {}, (256, 512), 70_680_771, 118_603_104_256),
        pytest.param("pix2pixhd", {}, (256, 512), 182_546_755, 122_331_070_464, marks=pytest.mark.exhaustive),
        pytest.param(  # 2 * 2.97 G at full size, and a global generator of 64 channels at half of it
            *("pix2pixhd_local", {}, (512, 1024), 182_857_059, 186_982_072_320),
            marks=pytest.mark.exhaustive,
        ),
        pytest.param("gaugan", {}, (256, 512), 93_048_003, 281_276_612_608, marks=pytest.mark.exhaustive),
        pytest.param(  # of COCO-Stuff
            *("gaugan", {"in_channels": 184, "doublings": 5, "spectral": False}, (256, 256)),
            *(97_480_899, 191_140_069_376),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_networks_for_label_maps_have_the_published_counts(name, options, size, params, macs):
    """At 512 x 256 with 35 labels and the edges of instances, as for Cityscapes."""
    network = meta(name, **({"in_channels": 36} | options)).eval()
    labels = torch.zeros(1, options.get("in_channels", 36), *size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert network(labels).shape == (1, 3, *size)
    assert sum(p.numel() for p in network.parameters()) == params
    assert counter.get_total_flops() == 2 * macs


def test_patchgan_scores_30_by_30_patches_of_a_256_image():
    assert meta("patchgan")(torch.zeros(1, 6, 256, 256, device="meta")).shape == (1, 1, 30, 30)


def test_one_incres_block_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in meta("incres9").blocks[0].parameters()) == 821_804


def test_unet_skips_carry_the_activated_tensor():
    """A transcription of the original recursion, where in-place LeakyReLUs change what the skip carries."""
    torch.manual_seed(0)
    net = nets.build("unet256", ngf=2, downs=5).eval()
    x = torch.randn(1, 3, 32, 32)

    def level(index: int, x: torch.Tensor) -> torch.Tensor:
        activated = nn.functional.leaky_relu(x, 0.2)
        inner = net.down[index][1:](activated)
        if index < 4:
            inner = level(index + 1, inner)
        return torch.cat([activated, net.up[4 - index](inner)], 1)

    expected = net.head(level(1, net.down[0](x)))
    torch.testing.assert_close(net(x), expected)


def test_resnet_takes_any_number_of_blocks():
    net = nets.build("resnet9", ngf=4, blocks=2)
    assert len(net.blocks) == 2
    assert net(torch.zeros(1, 3, 16, 24)).shape == (1, 3, 16, 24)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet8", {}, "unknown network 'resnet8'; did you mean 'resnet9'"),
        ("resnet9", {"nfg": 3}, "resnet9 has no option 'nfg'; did you mean 'ngf'"),
        ("resnet9", {"norm": "layer"}, "norm must be instance, batch, batch_stats or none, got 'layer'"),
        ("resnet9", {"ngf": 1.5}, "ngf must be a whole number from 0, got 1.5"),
        ("resnet9", {"ngf": "x"}, "ngf must be a whole number from 0, got 'x'"),
        ("resnet9", {"blocks": -1}, "blocks must be a whole number from 0, got -1"),
        ("incres9", {"ngf": 1}, "ngf = 1: blocks 4 wide leave no channel"),
        ("unet256", {"downs": 3}, "downs must be at least 5, got 3"),
        ("cartoongan", {"kernel": 4}, "kernel must be odd, got 4"),
        ("cartoongan", {"norm": "batch"}, "cartoongan has no option 'norm'"),
    ],
)
def test_a_wrong_name_or_option_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        nets.build(name, **options)


def test_a_style_takes_the_place_of_the_smallest_map():
    """Of 256 numbers, 4 x 8 pixels of 1024 channels, where a convolution was."""
    network = meta("gaugan", in_channels=36, spectral=False, styles=256)
    without = 93_048_003 - (36 * 9 + 1) * 1024
    assert sum(p.numel() for p in network.parameters()) == without + 257 * 32 * 1024 == 101_136_579
