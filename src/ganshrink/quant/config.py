"""How a generator's convolutions are quantized."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ganshrink.quant.fake import Levels


class QuantConfig(BaseModel):
    """Weights and activations of convolutions in few bits; defaults are those of GAN Slimming (section 3.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight_bits: int = Field(default=8, ge=2, le=8, description="bits of a weight, the paper's n")
    activation_bits: int = Field(default=8, ge=2, le=8, description="bits of an activation, the paper's m")
    activations: Literal["fixed", "observed"] = Field(
        default="fixed",
        description="range of activations; fixed: the paper's [0, p]; observed: what calibration images show, either sign",
    )
    limit: float = Field(
        default=4.0, gt=0, description="where activations are cut off, the paper's p; with fixed ranges"
    )
    levels: Levels = Field(
        default="paper",
        description="scale of weights; paper: max|W| / 2^(n-1) (Eq. 8); code: max|W| / (2^(n-1) - 1), the released code's",
    )
    per_channel: bool = Field(
        default=False,
        description="a scale for each output channel of a weight; the paper has one for each weight",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="paths of convolutions that stay in float, such as 'up.7'"
    )
