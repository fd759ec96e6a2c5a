"""Device profiles that nobody measured: of any network, on a device whose times are a formula."""

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from ganshrink.latency.layer_times import grid
from ganshrink.latency.layers import Layer, Shape, layers_of
from ganshrink.latency.profiles import DeviceProfile, Fit, LayerTimes, Machine

Formula = Callable[[Shape, int, int], float]


def formula(shape: Shape, inside: int, outside: int) -> float:
    """Milliseconds that grow with every width, another way for each kind of layer."""
    area = 1.0
    for number in shape.made:
        area *= number
    taps = 1.0
    for number in shape.kernel:
        taps *= number
    pairs = outside if shape.depthwise else inside * outside / shape.groups
    return 0.01 + area * taps * pairs / 1e5 + 3e-5 * area * (inside + outside) ** 0.5


def profile_of(
    network: nn.Module,
    example: Sequence[Tensor],
    *,
    step: int = 4,
    time: Formula = formula,
    fit: Fit | None = None,
    grids: Callable[[int], list[int]] | None = None,
    **facts: object,
) -> DeviceProfile:
    """The profile of a network; a layer's times are those of `time` at a grid of widths.

    Args:
        grids: the widths for a full one; none: those that are timed on real devices.
    """

    def widths(full: int, groups: int) -> list[int]:
        found = grid(full, step, fixed=False) if grids is None else grids(full)
        return [width for width in found if width % groups == 0]

    def times(same: list[Layer]) -> LayerTimes:
        one = same[0]
        inside = widths(one.inside, one.shape.groups)
        wide = one.outside // one.inside
        outside = [one.outside] if one.shape.depthwise else widths(one.outside, one.shape.groups)
        pairs = [[(a, a * wide if one.shape.depthwise else b) for b in outside] for a in inside]
        return LayerTimes(
            weights=[layer.weight for layer in same],
            shape=one.shape,
            inside=inside,
            outside=outside,
            ms=[[time(one.shape, a, b) for a, b in row] for row in pairs],
        )

    def alike(layer: Layer) -> tuple[str, int, int]:
        return str(layer.shape.__dict__), layer.inside, layer.outside

    layers = sorted(layers_of(network, example), key=alike)
    table = [times(list(same)) for _, same in groupby(layers, key=alike)]
    return DeviceProfile(
        **{
            "machine": Machine(name="a made-up phone", cores=4, mhz=1800),
            "runtime": "torch",
            "version": str(torch.__version__),
            "device": "cpu",
            "threads": 1,
            "original": 7.5,
            "step": step,
            "jaggedness": {"8": 1.2, "4": 1.01},
            "fit": fit or Fit(layers=0.8, nanoseconds=0.3, constant=0.25, off_by=0.04),
            "layer": table,
            **facts,
        }
    )
