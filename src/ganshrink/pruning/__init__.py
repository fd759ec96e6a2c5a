"""Plans over channels: which live, what that costs, and the network that is left."""

from ganshrink.pruning import allocate, scores
from ganshrink.pruning.affine import add_affine
from ganshrink.pruning.budget import Budget
from ganshrink.pruning.channels import Channels, Group
from ganshrink.pruning.extract import extract, zeroed
from ganshrink.pruning.fresh import initialise
from ganshrink.pruning.plan import Plan
from ganshrink.pruning.prune import prune
from ganshrink.pruning.reconstruct import reconstruct

__all__ = [
    "Budget",
    "Channels",
    "Group",
    "Plan",
    "add_affine",
    "allocate",
    "extract",
    "initialise",
    "prune",
    "reconstruct",
    "scores",
    "zeroed",
]
