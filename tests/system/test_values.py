"""Networks of other values than [-1, 1], made to take and give these."""

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ganshrink import extract, trace
from ganshrink.pruning import Plan
from ganshrink.system.values import ValueRange, Values, converting, decoded, raw, values_of

IMAGENET = ValueRange(range=(0, 1), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CAFFE = ValueRange(range=(0, 255), mean=(123.7, 116.8, 103.9))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1)).eval()


def by_hand(image, given):
    """The definition, in float64."""
    low, high = given.range
    levels = low + (image.double() + 1) / 2 * (high - low)
    mean, std = (torch.tensor(numbers).double().view(-1, 1, 1) for numbers in (given.mean, given.std))
    return (levels - mean) / std


@pytest.mark.parametrize(
    "given", [ValueRange(range=(0, 1)), ValueRange(range=(0, 255)), IMAGENET, CAFFE], ids=str
)
def test_values_are_converted_there_and_back(given):
    image = torch.rand(2, 3, 4, 5) * 2 - 1
    torch.testing.assert_close(given.encode(image).double(), by_hand(image, given), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(given.decode(given.encode(image)), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize("taken", [ValueRange(range=(0, 255)), IMAGENET], ids=str)
def test_a_network_made_to_convert_keeps_paths_weights_and_its_own_self(taken):
    values = Values(input=taken, output=ValueRange(range=(0, 1)))
    own, image = network(), torch.rand(2, 3, 8, 8) * 2 - 1
    expected = own(taken.encode(image)) * 2 - 1
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    changed = converting(copy.deepcopy(own), values)
    torch.testing.assert_close(changed(image), expected)
    assert changed.state_dict().keys() == before.keys() and repr(changed) == repr(own)
    copied = copy.deepcopy(changed)
    torch.testing.assert_close(copied(image), expected)
    assert type(raw(changed)) is type(own) and values_of(raw(changed)) == values
    torch.testing.assert_close(raw(changed)(taken.encode(image)), own(taken.encode(image)))
    torch.testing.assert_close(decoded(raw(changed)(taken.encode(image)), raw(changed)), expected)
    assert type(converting(raw(changed))) is not type(own)  # what it takes was not forgotten
    assert converting(own, Values()) is own and type(own) is nn.Sequential


@pytest.mark.parametrize("taken", [ValueRange(range=(0, 1)), IMAGENET], ids=str)
def test_it_is_cut_as_without_the_conversion(taken):
    own, example = network(), torch.zeros(1, 3, 8, 8)
    changed = converting(copy.deepcopy(own), Values(input=taken, output=taken))
    plain, channels = trace(own, example), trace(changed, example)
    found, expected = (
        [(g.name, bool(g.frozen), len(g.atoms)) for g in each.groups] for each in (channels, plain)
    )
    assert found == expected
    assert channels.cost() == plain.cost()
    plan = Plan.random(channels, 0.5, 0)
    small = extract(changed, channels, plan)
    image = torch.rand(1, 3, 8, 8) * 2 - 1
    expected = extract(own, plain, plan)(taken.encode(image))
    torch.testing.assert_close(small(image), taken.decode(expected), rtol=1e-4, atol=1e-4)


def test_only_pictures_among_several_inputs_are_converted():
    class Two(nn.Module):
        def forward(self, image, code):
            return image + code[:, :, None, None]

    values = Values(input=ValueRange(range=(0, 255)), pictures=(True, False))
    changed = converting(Two(), values)
    image, code = torch.zeros(1, 3, 2, 2), torch.rand(1, 3)
    torch.testing.assert_close(changed(image, code), 127.5 + code[:, :, None, None].expand(1, 3, 2, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"range": (1, 0)}, "black must be less than white"),
        ({"std": (0.2, 0, 0.2)}, "numbers above 0"),
        ({"mean": (0.5, 0.5), "std": (0.2, 0.2, 0.2)}, "mean has 2 numbers, std 3"),
    ],
)
def test_what_is_no_range_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        ValueRange(**given)
