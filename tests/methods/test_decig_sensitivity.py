"""DECIG's hinges looked at on images: which ones show, how far they move up, dead layers, and what hinges.json says."""

import json
import logging
from typing import Any

import pytest
import tiny_decig as roads
import tiny_dmad as tiny
import torch
from torch import Tensor, nn

from ganshrink.graph import trace
from ganshrink.methods.decig.decig import cut_at_hinges
from ganshrink.methods.decig.hinges import Hinge, decided, decided_together, find_hinges
from ganshrink.pruning import Channels, Plan, zeroed
from ganshrink.pruning.sensitivity import image_change

WIDTH = 96


def normed() -> nn.Module:
    """Two layers, each before a norm that undoes any factor. Half of the first are nearly nothing, but the larger of these
    are read like all others; a third of the second is, and is not read."""
    torch.manual_seed(5)
    net = nn.Sequential(
        *(nn.Conv2d(3, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH, eps=0), nn.ReLU()),
        *(nn.Conv2d(WIDTH, 30, 3, padding=1, bias=False), nn.BatchNorm2d(30, eps=0), nn.ReLU()),
        *(nn.Conv2d(30, 3, 3, padding=1), nn.Tanh()),
    ).eval()
    with torch.no_grad():
        for conv, norm, few in ((net[0], net[1], WIDTH // 2), (net[3], net[4], 10)):
            norm.weight.uniform_(0.5, 1)
            norm.bias.uniform_(0, 0.2)
            scale = torch.linspace(1e-3, 3e-4, few)
            conv.weight[-few:] *= scale[:, None, None, None]
            norm.running_var[-few:] *= scale**2
        net[3].weight[:, WIDTH // 2 :] *= torch.logspace(0, -6, WIDTH // 2)[None, :, None, None]
        net[6].weight[:, -10:] *= 1e-5
    return net


def batches() -> list[Tensor]:
    return list(torch.stack(tiny.pictures(6, 3)).split(4))


@pytest.fixture(scope="module")
def looked() -> tuple[nn.Module, Channels, dict[str, Tensor]]:
    net = normed()
    channels = trace(net, torch.zeros(1, 3, 16, 16))
    return net, channels, roads.sizes(net, channels)


def moved(
    looked: tuple[nn.Module, Channels, dict[str, Tensor]], kept: dict[str, int], **options: Any
) -> dict[str, Hinge]:
    """These hinges, after a look at the images."""
    net, channels, sizes = looked
    hinges = {name: Hinge(count, "curve") for name, count in kept.items()}
    return decided(hinges, channels, sizes, image_change(net, channels, batches()), **options)


def change_by_hand(net: nn.Module, channels: Channels, size: Tensor, name: str, kept: int) -> float:
    """Of the images of the network with everything of that layer's smallest channels at zero."""
    [group] = [group for group in channels.groups if group.name == name]
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    keep[group.atoms[size.argsort(descending=True)[kept:]]] = False
    images = torch.cat(batches())
    with torch.no_grad():
        whole, without = net(images), zeroed(net, channels, Plan(keep))(images)
    return ((without - whole).abs().mean() / whole.abs().mean()).item()


def test_a_hinge_moves_up_until_what_is_behind_it_no_longer_shows(looked):
    net, channels, sizes = looked
    hinges = find_hinges(channels, sizes, by_hand={})
    assert hinges == {"0": Hinge(WIDTH // 2, "curve"), "3": Hinge(20, "curve")}
    found = moved(looked, {"0": WIDTH // 2, "3": 20}, eps=0.02)
    for name, one in found.items():
        assert one.change == pytest.approx(
            change_by_hand(net, channels, sizes[name], name, one.kept), rel=1e-4
        )
        assert one.change <= 0.02
    assert found["3"].kept == 20  # nothing reads the rest
    assert WIDTH // 2 < found["0"].kept < WIDTH
    # 48 channels are behind it, 32 strides would be of 1.5
    assert change_by_hand(net, channels, sizes["0"], "0", found["0"].kept - 2) > 0.02


def test_a_stricter_look_keeps_more_and_at_worst_all(looked):
    kept = [moved(looked, {"0": 48}, eps=eps)["0"].kept for eps in (10.0, 0.02, 0.01, 1e-3, 1e-9)]
    assert kept == sorted(kept) and len(set(kept)) == 5
    assert (kept[0], kept[-1]) == (48, WIDTH)
    assert moved(looked, {"0": 48}, eps=0)["0"] == Hinge(WIDTH, "curve", 48, 0.0)


def test_what_moves_keeps_to_the_step(looked):
    for step in (8, 20):
        kept = moved(looked, {"0": -(-48 // step) * step}, eps=0.02, round_to=step)["0"].kept
        assert kept > 48 and (kept % step == 0 or kept == WIDTH)


def test_a_layer_is_looked_at_six_times_at_most(looked):
    passes = []
    handle = looked[0].register_forward_hook(lambda *_: passes.append(1))
    moved(looked, {"0": 5, "3": 2}, eps=1e-6)
    handle.remove()
    assert len(passes) <= len(batches()) * (1 + 2 * 6)


def test_a_short_floor_is_cut_where_images_do_not_show_it(looked):
    net, channels, _ = looked
    sizes = {"0": torch.ones(WIDTH), "3": torch.ones(30)}
    fall = torch.cat([10 ** -torch.linspace(0, 2, 66), 10 ** (-2.05 - torch.linspace(0, 0.05, 30))])
    sizes["0"] = fall[torch.randperm(WIDTH, generator=torch.Generator().manual_seed(0))]
    hinges = {"0": Hinge(WIDTH, "none"), "3": Hinge(30, "none")}
    [first] = [group for group in channels.groups if group.name == "0"]
    gone = set(first.atoms[sizes["0"].argsort(descending=True)[66:]].tolist())

    def change(atoms: Tensor) -> float:
        """Nothing but the floor is unseen."""
        return 0.003 if set(atoms.tolist()) <= gone else 0.5

    found = decided(hinges, channels, sizes, change, 0.02)
    assert found == {"0": Hinge(66, "images", change=0.003), "3": hinges["3"]}
    assert decided(hinges, channels, sizes, change, 0.002) == hinges


def test_all_cuts_together_can_be_limited(looked):
    net, channels, sizes = looked
    hinges, change = find_hinges(channels, sizes, by_hand={}), image_change(net, channels, batches())

    def both(together: float | None) -> tuple[dict[str, Hinge], float, float]:
        found, eps = decided_together(hinges, channels, sizes, change, 0.1, together=together)
        gone = []
        for group in (group for group in channels.groups if group.name in found):
            falling = group.atoms[sizes[group.name].argsort(descending=True)]
            gone.append(falling[found[group.name].kept :])
        return found, eps, change(torch.cat(gone))

    free, eps, changed = both(None)
    assert eps == 0.1 and free == decided(hinges, channels, sizes, change, 0.1)
    for limit in (changed * 0.6, changed * 0.2):
        found, eps, within = both(limit)
        assert within <= limit < changed and eps < 0.1
        assert all(found[name].kept >= free[name].kept for name in free)


# What a run makes of it


def planned(
    net: nn.Module, *, budget: str = "macs=100%", **changes: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What hinges.json says, by layer and of all, of a network that is cut by what makes its channels."""
    work = tiny.job(lambda: net, budget=budget, data=tiny.inputs())
    channels, found = work.channels, cut_at_hinges(net, work, roads.config(**changes))
    plan, said = Plan.from_json(channels, found["plan"]), found["hinges"]
    layers = {layer["name"]: layer for layer in said.pop("layers")}
    for group in channels.groups:
        if group.frozen is None:
            assert layers[group.name]["kept"] == int(plan.keep[group.atoms].sum())
    assert json.loads(json.dumps(layers)) == layers
    return layers, said


def test_what_shows_is_not_cut_and_the_log_and_the_file_say_so(caplog):
    with caplog.at_level(logging.INFO):
        layers, said = planned(normed(), sensitivity=0.02)
    assert "2 of 2 layers have a hinge; 1 moved up, since the images changed by more than 2 %" in caplog.text
    assert 0 < said.pop("change") < 0.04  # of both layers together
    assert said == {"importance": "own", "sensitivity": 0.02, "calibration_images": 16}
    assert "the images change by" in caplog.text
    first, second = layers["0"], layers["3"]
    assert (first["how"], first["moved_from"], first["of"]) == ("curve", 48, WIDTH)
    assert 48 < first["hinge"] == first["kept"] < WIDTH and 0 < first["change"] <= 0.02
    assert (second["hinge"], second["moved_from"], second["kept"]) == (20, None, 20)
    assert second["change"] < 1e-3


def test_curves_alone_decide_where_nothing_is_looked_at(caplog):
    with caplog.at_level(logging.INFO):
        layers, said = planned(normed(), sensitivity=0)
    assert [layer["kept"] for layer in layers.values()] == [48, 20] and "moved up" not in caplog.text
    assert said == {"importance": "own"} and layers["0"]["change"] is None


def test_what_is_set_by_hand_is_not_looked_at():
    layers, _ = planned(normed(), hinges={"0": 40}, sensitivity=0.02)
    assert (layers["0"]["how"], layers["0"]["hinge"], layers["0"]["kept"]) == ("hand", 40, 40)
    assert layers["0"]["change"] is None and layers["3"]["change"] is not None


@pytest.mark.slow
def test_a_budget_moves_what_the_images_moved():
    """All hinges together, as without a look."""
    loose, _ = planned(normed(), sensitivity=0.02)
    tight, _ = planned(normed(), sensitivity=0.02, budget="macs=20%")
    assert all(tight[name]["hinge"] == loose[name]["hinge"] > tight[name]["kept"] for name in loose)


def test_the_curve_is_sorted_relative_and_thinned():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 300, 3, padding=1), nn.ReLU(), nn.Conv2d(300, 3, 3, padding=1)).eval()
    layers, _ = planned(net)
    layer, sizes = layers["0"], net[0].weight.detach().abs().sum((1, 2, 3)).sort(descending=True).values
    assert (layer["how"], layer["hinge"], layer["moved_from"]) == ("none", None, None)
    assert len(layer["channels"]) == len(layer["magnitudes"]) == 256
    assert (layer["channels"][0], layer["channels"][-1]) == (1, 300)
    wanted = [(sizes[channel - 1] / sizes[0]).item() for channel in layer["channels"]]
    assert layer["magnitudes"] == pytest.approx(wanted, rel=1e-3)


# Layers whose curve has no hinge


def without_its_block() -> nn.Module:
    """A network, the inner layer of whose block training has left nothing of."""
    net = roads.plain()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("3.body.0") or name == "3.body.2.weight":
                parameter.mul_(1e-3)
    return net


@pytest.mark.exhaustive
def test_a_layer_that_does_nothing_is_cut_to_its_floor_whatever_its_curve(caplog):
    net = without_its_block()
    with caplog.at_level(logging.INFO):
        layers, _ = planned(net)
    layer = layers["3.body.0"]
    assert (layer["how"], layer["hinge"], layer["kept"]) == ("images", 2, 2)  # 5 % of 24
    assert layer["change"] < 0.01
    assert (
        "1 of 4 layers have a hinge; 3 without one" in caplog.text and "1 seen on images alone" in caplog.text
    )
    assert planned(net, floor=6)[0]["3.body.0"]["kept"] == 6
    assert planned(net, hinges={"3.body.0": 9})[0]["3.body.0"]["kept"] == 9
    assert planned(net, sensitivity=0)[0]["3.body.0"]["how"] == "none"


def smooth(seen: int) -> nn.Module:
    """A layer whose magnitudes fall smoothly over two decades, and of which readers see the largest few."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 3, 3, padding=1)).eval()
    with torch.no_grad():
        net[0].weight /= net[0].weight.abs().sum((1, 2, 3), keepdim=True)
        net[0].weight *= torch.logspace(0, -2, 64)[:, None, None, None]
        net[0].bias.fill_(0.1)
        net[2].weight[:, seen:] *= 1e-5
    return net


@pytest.mark.parametrize(("seen", "hinge"), [(10, 10), (20, 20), (40, None), (64, None)])
def test_images_find_what_a_smooth_curve_does_not_tell(seen, hinge):
    """In no more than half of the layer: what most of its channels make is no dead rest."""
    layer = planned(smooth(seen))[0]["0"]
    assert layer["how"] == ("images" if hinge else "none")
    if hinge:
        assert hinge - 2 <= layer["hinge"] <= hinge + 1 and layer["change"] <= 0.02
    else:
        assert layer["kept"] == 64 and layer["hinge"] is None
