"""DECIG's Stage II: a condensed network cut at its hinges, and what a run tells about them."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from ganshrink.methods.base import Job
from ganshrink.methods.decig.config import LOOKING, DecigConfig
from ganshrink.methods.decig.hinges import Hinge, find_hinge, hinges_within
from ganshrink.methods.decig.sensitivity import Checked, calibration_batches, checked_hinges
from ganshrink.pruning import Channels, Plan

logger = logging.getLogger(__name__)

POINTS = 256  # of a curve: more than a small picture shows


def cut_at_hinges(
    network: nn.Module,
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    config: DecigConfig,
    job: Job,
    *,
    start: Mapping[str, float],
    name: str = "G",
) -> tuple[Plan, dict[str, Any]]:
    """Each layer cut at its hinge, or all of them together for the budget; and what hinges.json says of that.

    Args:
        network: it, as Stage I left it.
        magnitudes: per group name (len(group),), of all groups that may be cut.
        job: its budget, and the training images on which hinges are looked at.
        start: per group name the largest magnitude before Stage I, where that is known.
        name: of the generator, for the log.
    """
    limits: Any = {"least": config.floor, "round_to": config.round_to or 1}
    if not config.sensitivity:
        start = {}  # only images can tell a dead layer from one that a norm makes as large again
    hinges = {key: find_hinge(size, start=start.get(key), **limits) for key, size in magnitudes.items()}
    # those by hand stand as they are
    found = {key: hinge.kept for key, hinge in hinges.items() if hinge.found and key not in config.hinges}
    checked = {}
    if found and config.sensitivity:
        checked = checked_hinges(
            network, channels, magnitudes, found, calibration_batches(job.data, config.calibration_images),
            eps=config.sensitivity, round_to=limits["round_to"],
        )  # fmt: skip
    _tell(name, hinges, checked, config.hinges)
    kept = {key: hinge.kept for key, hinge in hinges.items()} | {k: one.kept for k, one in checked.items()}
    limits |= {"overrides": config.hinges, "hinges": kept}
    plan = job.plan_within(
        lambda budget: hinges_within(channels, magnitudes, budget, **limits), network, channels
    )
    cost = channels.cost(plan)
    logger.info("%s: %.4g G MACs (exact), %.4g M parameters", name, cost.macs / 1e9, cost.params / 1e6)
    looked = config.model_dump(mode="json", include=LOOKING) if checked else {}
    layers = _records(channels, magnitudes, hinges, checked, config.hinges, plan)
    return plan, {"importance": config.importance, **looked, "layers": layers}


def _tell(
    name: str, hinges: Mapping[str, Hinge], checked: Mapping[str, Checked], by_hand: Mapping[str, int]
) -> None:
    moved = [key for key, one in checked.items() if one.kept > hinges[key].kept]
    if checked:
        which = f" ({_some(moved)})" if moved else ""
        logger.info(
            "%s: %d of %d hinges show in the images and move up%s", name, len(moved), len(checked), which
        )
    dead = [key for key, hinge in hinges.items() if hinge.dead and key in checked and key not in moved]
    if dead:
        logger.warning("%s: %d layers are dead and keep their least width (%s)", name, len(dead), _some(dead))
    flat = [key for key, hinge in hinges.items() if not hinge.found and key not in by_hand]
    if flat:
        logger.warning(
            "%s: %d of %d layers have no hinge, their channels fall off evenly (%s): only the budget cuts them",
            name, len(flat), len(hinges), _some(flat),
        )  # fmt: skip


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _records(
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    hinges: Mapping[str, Hinge],
    checked: Mapping[str, Checked],
    by_hand: Mapping[str, int],
    plan: Plan,
) -> list[dict[str, Any]]:
    """Of every free group, in the network's order, what hinges.json holds.

    `name`, `of` and `kept` channels; `hinge` and `how` it came about: hand, curve, dead (all of the layer) or none;
    `moved_from` where the images moved it; `change` of the images without what is behind it, where that was looked at;
    the curve as `channels` (1 is the largest) and their `magnitudes` over the largest.
    """
    records = []
    for group in channels.groups:
        if group.frozen is not None:
            continue
        hinge, looked_at = hinges[group.name], checked.get(group.name)
        how = "dead" if hinge.dead else "curve" if hinge.found else "none"
        kept: int | None = hinge.kept if hinge.found else None
        if group.name in by_hand:
            how, kept = "hand", by_hand[group.name]
        elif looked_at is not None:
            kept = looked_at.kept
        moved = looked_at is not None and kept != hinge.kept
        record = {"name": group.name, "of": len(group), "kept": int(plan.keep[group.atoms].sum())}
        record |= {"hinge": kept, "how": how, "moved_from": hinge.kept if moved else None}
        record |= {"change": _rounded(looked_at.change) if looked_at else None}
        records.append(record | _curve(magnitudes[group.name]))
    return records


def _curve(magnitudes: Tensor) -> dict[str, list[Any]]:
    falling = magnitudes.detach().double().cpu().sort(descending=True).values.numpy()
    at = np.unique(np.linspace(0, len(falling) - 1, min(len(falling), POINTS)).round().astype(int))
    largest = falling[0] or 1.0
    return {"channels": (at + 1).tolist(), "magnitudes": [_rounded(falling[i] / largest) for i in at]}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
