"""Which widths a device likes: found by timing, not assumed."""

import math
from collections.abc import Callable, Iterable, Mapping

from ganshrink.latency.layers import Layer, Shape

Time = Callable[[Shape, int, int], float]

STEPS = (16, 8, 4, 2, 1)
JAGGED = 1.05
HEAVY, MOST = 0.8, 6  # widths are judged by the layers that take this share of the time, by at most so many
PASSES = 3  # over the widths, of which the shortest times count


def liked_step(
    layers: Iterable[tuple[Layer, int]], free: Mapping[str, tuple[bool, bool]], time: Time
) -> tuple[int, dict[str, float]]:
    """The multiple of which widths should be: the least such that time is no more jagged at finer ones.

    Runtimes compute blocks of channels (16 with AVX-512, for instance), and some take another path where a width is no
    whole number of them, so that 40 channels may take longer than 48. At an odd multiple of a step, the time is compared
    with the straight line between its two neighbours: real cost curves bend the other way.

    Args:
        layers: with how often each is called.
        free: per weight whether its input and output may be cut.
        time: of a layer of that shape, taking and making so many channels, in any unit.

    Returns:
        The step; and per step that ratio, a mean over the layers that take most of the time.
    """
    costly = sorted(
        ((time(one.shape, one.inside, one.outside) * count, one) for one, count in layers),
        key=lambda pair: -pair[0],
    )
    total, seen = sum(spent for spent, _ in costly), 0.0
    ratios: dict[int, list[tuple[float, float]]] = {step: [] for step in STEPS}
    for spent, layer in costly[:MOST]:
        if seen > HEAVY * total:
            break
        seen += spent
        for step, ratio in _jaggedness(layer, free[layer.weight], time).items():
            ratios[step].append((spent, ratio))
    means = {
        step: sum(spent * ratio for spent, ratio in pairs) / sum(spent for spent, _ in pairs)
        for step, pairs in ratios.items()
        if pairs
    }
    liked = next((2 * step for step in STEPS if means.get(step, 0) > JAGGED), 1)
    return liked, {str(step): round(mean, 4) for step, mean in means.items()}


def _jaggedness(layer: Layer, free: tuple[bool, bool], time: Time) -> dict[int, float]:
    """Time at 48, 40, 36, 34 and 33 channels over the line between their neighbours; half of that for narrower layers."""
    sides = [full for full, may in zip((layer.inside, layer.outside), free, strict=True) if may]
    if not sides or min(sides) < 32 or layer.shape.groups > 1:
        return {}
    base = 32 if min(sides) >= 64 else 16

    def at(width: int) -> float:
        inside, outside = (
            width if may else full for full, may in zip((layer.inside, layer.outside), free, strict=True)
        )
        if layer.shape.depthwise:
            outside = inside * (layer.outside // layer.inside)
        return time(layer.shape, inside, outside)

    steps = [step for step in STEPS if step < base]
    widths = [base + step for step in (0, *steps, base)]
    times = dict.fromkeys(widths, math.inf)
    for width in PASSES * widths:  # in turn, so that one busy moment is not taken for a property of one width
        times[width] = min(times[width], at(width))
    return {step: 2 * times[base + step] / (times[base] + times[base + 2 * step]) for step in steps}
