"""Looking at a device: the layers of a network timed there, which widths it likes, and a fit to whole networks."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink.exporters.runtime import runtime_version
from ganshrink.graph import trace
from ganshrink.latency.backends import Device, network_run
from ganshrink.latency.layer_times import grid, time_grid, time_layer
from ganshrink.latency.layers import Layer, layers_of
from ganshrink.latency.measuring import interleave, torch_threads
from ganshrink.latency.profiles import DeviceProfile, Fit, LayerTimes, Machine, ProfiledTimes, fit_times
from ganshrink.latency.shares import share_of
from ganshrink.latency.widths import liked_step
from ganshrink.pruning import Channels, extract
from ganshrink.pruning.allocate import share_of_each
from ganshrink.system.machine import clock_governor, clock_mhz, core_count, device_name

logger = logging.getLogger(__name__)

SHARES = (1.0, 0.5, 0.25, 0.125)  # of each layer's width, of the networks that are timed whole
ROUNDS, SECONDS = 40, 6.0


def measure_profile(network: nn.Module, example: Sequence[Tensor], device: Device) -> DeviceProfile:
    """A profile of this machine for a network and all that can be cut from it.

    Takes a few times ten seconds: each layer runs at about thirty pairs of widths, whole networks of four widths are
    exported and timed.

    Args:
        network: the whole one; it is not changed.
        example: inputs of the size at which times count, one image.
    """
    example = tuple(example)
    channels = trace(network, *example)
    calls: dict[tuple[object, ...], list[Layer]] = {}
    for layer in layers_of(network, example):
        calls.setdefault((layer.shape, layer.inside, layer.outside), []).append(layer)
    free = _free_axes(channels, (layer for same in calls.values() for layer in same))
    with torch_threads(device.threads), torch.inference_mode():
        counted = [(same[0], len(same)) for same in calls.values()]
        step, jaggedness = liked_step(counted, free, partial(time_layer, device=device))
        logger.info(
            "timing %d different layers alone in %s, at widths in steps of %d",
            len(calls),
            device.runtime,
            step,
        )
        table = [_timed(same, free, step, device) for same in calls.values()]
    draft = DeviceProfile(
        machine=Machine(
            name=device_name(torch.device(device.kind)),
            cores=core_count(),
            mhz=clock_mhz(),
            governor=clock_governor(),
        ),
        runtime=device.runtime,
        version=runtime_version(device.runtime),
        device=device.kind,
        threads=device.threads,
        original=1,
        step=step,
        jaggedness=jaggedness,
        fit=Fit(layers=1, nanoseconds=0, constant=0, off_by=0),
        layer=table,
    )
    with torch_threads(device.threads):
        whole, fit = _fitted(network, channels, example, draft)
    return draft.model_copy(update={"original": whole, "fit": fit})


def _timed(
    same: Sequence[Layer], free: Mapping[str, tuple[bool, bool]], step: int, device: Device
) -> LayerTimes:
    """One layer at a grid of widths, for all calls of its kind."""
    layer = same[0]
    may_take, may_make = (any(free[one.weight][side] for one in same) for side in (0, 1))
    inside = grid(layer.inside, step, fixed=not may_take, groups=layer.shape.groups)
    outside = grid(
        layer.outside, step, fixed=layer.shape.depthwise or not may_make, groups=layer.shape.groups
    )
    table = time_grid(layer, inside, outside, device)
    return LayerTimes(
        weights=[one.weight for one in same], shape=layer.shape, inside=inside, outside=outside,
        ms=[[round(float(time), 5) for time in row] for row in table],
    )  # fmt: skip


def _free_axes(channels: Channels, layers: Iterable[Layer]) -> dict[str, tuple[bool, bool]]:
    """Per weight whether a plan may cut what the layer takes, and what it makes."""
    frozen = np.array([group.frozen is not None for group in channels.groups])[channels.group_of]
    found = {}
    for layer in layers:
        axes = channels.axes.get(layer.weight, (None, None))[:2]
        rows, columns = (axis is not None and bool((~frozen[axis[axis >= 0]]).any()) for axis in axes)
        if layer.shape.depthwise:
            found[layer.weight] = (rows, rows)
        else:
            found[layer.weight] = (rows, columns) if layer.shape.kind == "conv_transpose" else (columns, rows)
    return found


def _fitted(
    network: nn.Module, channels: Channels, example: tuple[Tensor, ...], draft: DeviceProfile
) -> tuple[float, Fit]:
    """Milliseconds of the whole network, and how those of narrower ones follow from their layers'."""
    plans = dict.fromkeys(share_of_each(channels, share, round_to=draft.step) for share in SHARES)
    logger.info("timing %d whole networks, the original and narrower ones", len(plans))
    with TemporaryDirectory() as folder:
        runs = [
            network_run(
                extract(network, channels, plan), example, draft.place, Path(folder) / f"{number}.onnx"
            )
            for number, plan in enumerate(plans)
        ]
        rounds = interleave(runs, warmup=2, rounds=ROUNDS, seconds=SECONDS)
    whole = float(np.percentile(rounds.wall[:, 0], 25))
    single = draft.threads == 1 and draft.device == "cpu"
    measured = [whole * share_of(rounds, column, single=single).value for column in range(len(runs))]
    times = ProfiledTimes(draft)
    sums = [times.sums(channels, channels.widths(plan)) for plan in plans]
    return whole, fit_times([alone for alone, _ in sums], [made for _, made in sums], measured)
