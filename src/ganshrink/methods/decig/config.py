"""DECIG's settings. The paper gives few: where it is silent, the description says so."""

from typing import ClassVar, Literal

from pydantic import Field

from ganshrink.methods.base import MethodConfig, Settings
from ganshrink.methods.decig.condensing import Importance, Shape

LOOKING = {"sensitivity", "calibration_images"}  # settings that decide how hinges are looked at on images
CUTTING = {"hinges", "floor", "round_to"} | LOOKING  # and all that decide what is cut of a condensed network


class CondensingConfig(Settings):
    """Stage I: a generator trained so that few channels do the work."""

    shape: Shape = Field(
        default="linear",
        description="f of Eq. 1, by which a layer's channels are penalised in order of their size",
    )
    importance: Importance = Field(
        default="own",
        description="the size of a channel: L1 norm of the weights that make it (own, the paper's), or of those that read "
        "it too (own_plus_consumer), since a norm undoes what the first lose",
    )
    factor: str = Field(
        default="macs",
        description="l(i) of Eq. 2, by which a layer counts: its exact MACs, or its time on cpu, cuda or the device of a "
        "profile, given by its file",
    )
    ratio: float = Field(
        default=0.1,
        gt=0,
        description="alpha * L_PENAL over the task's L1 terms, as they enter the loss, at the first step: the paper's "
        "high-reg; low-reg: 0.01",
    )


class DecigConfig(MethodConfig, CondensingConfig):
    """DECIG's settings. GAN, cycle and reconstruction losses are the task's."""

    both_ways: ClassVar[bool] = True

    name: Literal["decig"] = Field(
        default="decig", description="the method, as `ganshrink methods` lists them"
    )
    hinges: dict[str, int] = Field(
        default={}, description="channels to keep by hand, by the name of a group in plan.json; others: found"
    )
    sensitivity: float = Field(
        default=0.02,
        ge=0,
        description="how much the images may change, relative L1, by what is behind one layer's hinge; where it is more, "
        "the hinge moves up. 0: the curves alone decide",
    )
    calibration_images: int = Field(
        default=16, ge=1, description="training images on which that is looked at, spread over the set"
    )
    lambda_kd: float = Field(
        default=50,
        ge=0,
        description="Stage II: weight of the L1 distance to the image of the network before it was cut; not in the paper",
    )
    floor: int = Field(
        default=1, ge=1, description="the least width of a layer outside the branches; never below 5 %"
    )
    round_to: int | None = Field(
        default=None,
        ge=1,
        description="widths are multiples of this, rounded up; none: 1, or for a budget in milliseconds what the device "
        "likes",
    )
