"""How a generator's convolutions are quantized, and how a student becomes a file of integers."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ganshrink.quant.fake import Levels


class QuantConfig(BaseModel):
    """Weights and activations of convolutions in few bits; defaults are those of GAN Slimming (section 3.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight_bits: int = Field(default=8, ge=2, le=8, description="bits of a weight, the paper's n")
    activation_bits: int = Field(default=8, ge=2, le=8, description="bits of an activation, the paper's m")
    activations: Literal["fixed", "observed"] = Field(
        default="fixed",
        description="range of activations; fixed: the paper's [0, p]; observed: fitted to what images show",
    )
    min_snr_db: float = Field(
        default=27.0,
        description="with observed ranges: an input that would be rounded worse than this, for outliers, stays float",
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
    ranges: dict[str, tuple[float, int]] | None = Field(
        default=None,
        description="scale and zero of what each convolution reads, by path: what a network was trained under; "
        "none: as images show",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="paths of convolutions that stay in float, such as 'up.7'"
    )


class QuantizationConfig(QuantConfig):
    """Whether and how to make an INT8 file of the student. Here, the defaults are those that lose least without training."""

    mode: Literal["none", "calibrate", "finetune"] = Field(
        default="none",
        description="student-int8.onnx; none: only of a student that was trained quantized; calibrate: ranges from images, "
        "no training; finetune: train on under quantizers, taught by the teacher",
    )
    images: int = Field(default=64, ge=1, description="training images to see ranges on, evenly spread")
    activations: Literal["fixed", "observed"] = Field(
        default="observed",
        description="range of activations; fixed: [0, p]; observed: fitted to what images show",
    )
    levels: Levels = Field(
        default="code",
        description="scale of weights; paper: max|W| / 2^(n-1), a level too many for bytes; code: max|W| / (2^(n-1) - 1)",
    )
    per_channel: bool = Field(default=True, description="a scale for each output channel of a weight")
    epochs: int = Field(default=5, ge=0, description="of finetuning, at the full learning rate")
    decay_epochs: int = Field(default=5, ge=0, description="of finetuning with linear decay, after those")
    max_steps: int | None = Field(
        default=None,
        ge=0,
        description="of finetuning: stop after so many steps; none: when the epochs are over",
    )
    lr: float | None = Field(
        default=None, gt=0, description="of finetuning: the learning rate; none: a tenth of the task's"
    )

    def given(self) -> dict[str, Any]:
        """What somebody wants otherwise than it is by default."""
        return self.model_dump(exclude_defaults=True)

    def ready(self, trained: QuantConfig | None, asked: Mapping[str, Any]) -> "QuantizationConfig":
        """With a mode that makes a file, under the quantizers that a student was trained with unless others are asked for.

        Args:
            trained: those quantizers; None: the student was trained in float.
            asked: fields that were given by hand.
        """
        known = {} if trained is None else trained.model_dump()
        mode = "calibrate" if self.mode == "none" else self.mode
        return QuantizationConfig.model_validate({**self.model_dump(), **known, **asked, "mode": mode})
