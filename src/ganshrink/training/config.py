"""How long and on what to train. The learning rate belongs to the task, the batch size to the batches."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FitConfig(BaseModel):
    """The settings of one call of `fit`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=100, ge=0, description="epochs at the full learning rate")
    decay_epochs: int = Field(
        default=100, ge=0, description="epochs of linear decay towards zero after those"
    )
    max_steps: int | None = Field(
        default=None,
        ge=0,
        description="stop after so many steps, whatever the epochs; none: when the epochs are over",
    )
    seed: int = Field(
        default=0, ge=0, description="seed of dropout and whatever else is drawn while training"
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        default="32-true", description="number format: float32, or autocast to bfloat16 or (GPU only) float16"
    )
    channels_last: bool = Field(
        default=False, description="keep images as NHWC in memory; faster with tensor cores"
    )
    compile: bool = Field(
        default=False,
        description="torch.compile the generators (nets named G...); not while masks, gates or quantizers are on them",
    )
    accumulate: int = Field(
        default=1, ge=1, description="batches a step; each update averages the gradients of so many"
    )
    log_every: int = Field(default=50, ge=1, description="steps from one line of events.jsonl to the next")
    tensorboard: bool = Field(default=False, description="write TensorBoard files too (extra: tensorboard)")
    checkpoint_minutes: float | None = Field(
        default=10, gt=0, description="minutes from one checkpoint to the next"
    )
    checkpoint_steps: int | None = Field(
        default=None, ge=1, description="steps from one checkpoint to the next, besides"
    )
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: a GPU if there is one"
    )
    devices: int = Field(default=1, ge=1, description="processes on this machine; torchrun's own number wins")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of torch; none: as torch has it")
    workers: int = Field(default=0, ge=0, description="processes that load data; 0: a thread of this one")
