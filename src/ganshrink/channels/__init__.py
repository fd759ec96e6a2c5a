"""Every channel is an atom: trace a network, plan which live, cut it, and know what that costs."""

from ganshrink.channels import allocate, scores
from ganshrink.channels.affine import add_affine
from ganshrink.channels.budget import Budget
from ganshrink.channels.fresh import initialise
from ganshrink.channels.gates import Gates
from ganshrink.channels.graph import Channels, Group
from ganshrink.channels.plan import Plan
from ganshrink.channels.pruning import prune
from ganshrink.channels.surgery import extract, zeroed
from ganshrink.channels.tracing import trace

__all__ = [
    "Budget",
    "Channels",
    "Gates",
    "Group",
    "Plan",
    "add_affine",
    "allocate",
    "extract",
    "initialise",
    "prune",
    "scores",
    "trace",
    "zeroed",
]
