"""The short way from a trained network and a budget to a plan."""

from torch import nn

from ganshrink.pruning.allocate import Floor, bisect_threshold
from ganshrink.pruning.budget import Budget
from ganshrink.pruning.channels import Channels
from ganshrink.pruning.plan import Plan
from ganshrink.pruning.scores import norm_scale


def prune(
    model: nn.Module, channels: Channels, budget: Budget | str, *, floor: Floor = 1, round_to: int = 1
) -> Plan:
    """Which channels stay under a budget: one-step pruning by norm scales (CAT, section 3.2), L2 norms where there are none.

    Nothing is trained and `model` is not changed; what `extract` cuts by this plan has still to be taught.

    Args:
        model: the trained network that was traced.
        channels: its structure, from `trace`.
        budget: such as "macs=10%" or "macs=2.6G,params=0.4M"; percentages are of `model`.
        floor: the least width of a group that cannot be removed.
        round_to: kept widths are multiples of this.

    Raises:
        ValueError: for a budget that does not parse or cannot be met, with the smallest reachable cost.
    """
    return bisect_threshold(channels, norm_scale(model, channels), budget, floor=floor, round_to=round_to)
