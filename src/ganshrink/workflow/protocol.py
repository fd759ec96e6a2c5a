"""What protocols say of all metrics of a run alike: which images were scored, and what else the values hang on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganshrink.data import Images, Latents
from ganshrink.data.images import stored_target, whole_of
from ganshrink.data.overlap import trained_on
from ganshrink.data.passes import all_batches
from ganshrink.metrics import MetricsConfig

Trained = Sequence[Images | None] | None
"""What networks were trained on, the images of the task first; none: it is not known."""


def said_of(
    images: Images, trained: Trained, networks: Iterable[nn.Module], config: MetricsConfig
) -> dict[str, str | int]:
    """The start of the images' fingerprint; which latent vectors images are made of, where that is so; how many were trained
    on, where some were; the size of a batch, where a network sees the other images in it."""
    said: dict[str, str | int] = {"data": images.fingerprint()[:12]}
    whole = whole_of(images)
    if isinstance(whole, Latents):
        said["latents"] = whole.said()
    if trained is None:
        said["trained_on"] = "unknown: the training images are not here"
    elif found := len(trained_on(images, *trained, limit=config.limit)):
        said["trained_on"] = f"{found} of {min(len(images), config.limit or len(images))} images"
    if any(map(_sees_its_batch, networks)):
        said["batch_size"] = config.batch_size
    return said


def reals_of(images: Images, trained: Trained, config: MetricsConfig) -> Iterator[dict[str, Any]]:
    """The batches whose targets `metrics.reals` names, where those are not of the batches scored."""
    which, _, stored = config.reals.partition("-")
    training: list[Images | None] = [*(trained or ())][:1]
    scored: list[Images | None] = [images] if stored or which == "all" else []
    sources = {"scored": scored, "train": training, "all": training + scored}
    for source in sources[which]:
        if source is None:
            continue
        if not stored:
            yield from all_batches(source, config.batch_size)
            continue
        count = min(len(images), config.limit or len(images)) if which == "scored" else len(source)
        targets = (stored_target(source, index) for index in range(count))
        yield from ({"target": target[None]} for target in targets if target is not None)


def _sees_its_batch(network: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) and module.running_mean is None for module in network.modules())
