"""Which widths a device likes, on devices whose times are formulas."""

from math import ceil

import pytest

from ganshrink.latency.layers import Layer, Shape
from ganshrink.latency.widths import liked_step

CONV = Shape("conv", (8, 8), (8, 8), (3, 3), (1, 1), (1, 1), (0, 0), (1, 1))
DEPTHWISE = Shape("conv", (8, 8), (8, 8), (3, 3), (1, 1), (1, 1), (0, 0), (1, 1), depthwise=True)
FREE = {"a": (True, True), "b": (True, True), "c": (True, True)}


def layer(inside: int, outside: int, name: str = "a", shape: Shape = CONV) -> Layer:
    return Layer(name, shape, inside, outside)


def blocks(size: int):
    """A device that computes whole blocks of channels: the rest of the last one is for nothing."""
    return lambda shape, inside, outside: float(ceil(inside / size) * ceil(outside / size) * size**2)


def smooth(shape: Shape, inside: int, outside: int) -> float:
    return float(inside * outside)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("full", [64, 100, 256])
def test_a_device_likes_its_blocks(size: int, full: int) -> None:
    step, ratios = liked_step([(layer(full, full), 1)], FREE, blocks(size))
    assert step == size
    assert all((ratio > 1.05) == (int(width) < size) for width, ratio in ratios.items())


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_narrower_layers_tell_as_well(size: int) -> None:
    assert liked_step([(layer(32, 63), 1)], FREE, blocks(size))[0] == size


@pytest.mark.parametrize(
    "time",
    [
        smooth,
        lambda shape, inside, outside: 5.0 + 0.1 * outside,
        lambda shape, inside, outside: 3.0,
        lambda shape, inside, outside: float(inside * outside) ** 0.5,
        lambda shape, inside, outside: 1 + 0.02 * blocks(16)(shape, inside, outside) + inside * outside,
    ],
    ids=["quadratic", "linear and a constant", "constant", "root", "hardly jagged"],
)
def test_a_device_that_likes_all_widths(time) -> None:
    assert liked_step([(layer(128, 128), 1)], FREE, time)[0] == 1


def test_ratios_are_times_over_the_line_between_neighbours() -> None:
    _, ratios = liked_step([(layer(64, 64), 1)], FREE, blocks(16))
    # blocks along a side: 2 at 32, 3 from 33 to 48, 4 at 64
    assert ratios == {"16": round(2 * 9 / (4 + 16), 4), **{s: round(2 * 9 / (4 + 9), 4) for s in "8421"}}


def test_the_layers_that_take_the_time_decide() -> None:
    """Jagged or smooth by their names: of two layers one takes nearly all of the time."""

    def time(shape: Shape, inside: int, outside: int) -> float:
        return (
            blocks(16)(shape, inside, outside) if shape.kernel == (5, 5) else smooth(shape, inside, outside)
        )

    jagged = Shape("conv", (8, 8), (8, 8), (5, 5))
    for big, expected in ((jagged, 16), (CONV, 1)):
        small = CONV if big is jagged else jagged
        layers = [(layer(64, 64, "a", small), 1), (layer(512, 512, "b", big), 1)]
        assert liked_step(layers, FREE, time)[0] == expected
        again = [(layer(64, 64, "a", small), 1), (layer(64, 64, "b", big), 50)]  # by its calls
        assert liked_step(again, FREE, time)[0] == expected


def test_sides_that_cannot_be_cut_stay_as_they_are() -> None:
    asked = []

    def time(shape: Shape, inside: int, outside: int) -> float:
        asked.append((inside, outside))
        return blocks(8)(shape, inside, outside)

    assert liked_step([(layer(3, 64), 1)], {"a": (False, True)}, time)[0] == 8
    assert {inside for inside, _ in asked} == {3}
    asked.clear()
    assert liked_step([(layer(64, 3), 1)], {"a": (True, False)}, time)[0] == 8
    assert {outside for _, outside in asked} == {3}
    assert liked_step([(layer(64, 64), 1)], {"a": (False, False)}, time) == (1, {})


def test_depthwise_layers_change_both_sides_together() -> None:
    asked = []

    def time(shape: Shape, inside: int, outside: int) -> float:
        asked.append((inside, outside))
        return float(ceil(inside / 16))

    assert liked_step([(layer(64, 128, shape=DEPTHWISE), 1)], FREE, time)[0] == 16
    assert all(outside == 2 * inside for inside, outside in asked)


def test_layers_too_narrow_to_tell() -> None:
    assert liked_step([(layer(31, 64), 1), (layer(16, 16, "b"), 3)], FREE, blocks(16)) == (1, {})
    told = liked_step([(layer(31, 64), 1), (layer(64, 64, "b"), 1)], FREE, blocks(16))
    assert told[0] == 16  # by the other one
