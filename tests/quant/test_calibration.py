"""Ranges seen on images, and images that show none."""

import pytest
import torch

from ganshrink.quant import QuantConfig, calibrate

OBSERVED = QuantConfig(activations="observed")


def test_ranges_are_those_of_all_images_and_a_quarter(net, images):
    seen = []
    path = "up.7"
    conv = net.get_submodule(path)
    watch = conv.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        for image in images:
            net(image)
    watch.remove()
    made = torch.cat(seen)
    grid = calibrate(net, OBSERVED, images)[path].output
    low, high = grid.bounds()
    step = grid.scale.flatten()
    assert torch.all((high.flatten() - 1.25 * made.amax((0, 2, 3)).clamp(min=0)).abs() <= step)
    assert torch.all((low.flatten() - 1.25 * made.amin((0, 2, 3)).clamp(max=0)).abs() <= step)


def test_only_stems_have_no_grid_for_what_they_read(net, images):
    grids = calibrate(net, OBSERVED, images)
    assert [path for path, grid in grids.items() if grid.input is None] == ["down.1"]
    assert all(grid.snr_db > 20 for grid in grids.values() if grid.snr_db is not None)
    fixed = calibrate(net, QuantConfig(), images)
    assert {grid.input.bounds() for grid in fixed.values() if grid.input is not None} == {(0.0, 4.0)}
    assert not net.training and not any(module._forward_hooks for module in net.modules())


def nan(image):
    return image.clone().index_fill_(2, torch.tensor([0]), torch.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: [], "there are no images to calibrate on"),
        (lambda images: [torch.full_like(images[0], 0.5)], "all of one colour"),
        (lambda images: [images[0]] * 3, "the 3 calibration images are all the same"),
        (lambda images: [*images, nan(images[0])], "holds NaN"),
    ],
)
def test_images_that_show_nothing(net, images, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        calibrate(net, OBSERVED, change(images))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "message"), [(0.0, "is 0 everywhere"), (torch.nan, "is NaN or infinite")])
def test_layers_without_a_range_are_named(net, images, value, message):
    conv = net.blocks[0].body[5]
    with torch.no_grad():
        conv.weight.fill_(value), conv.bias.zero_()
    with pytest.raises(ValueError, match=f"the output of 'blocks.0.body.5' {message}"):
        calibrate(net, OBSERVED, images)
