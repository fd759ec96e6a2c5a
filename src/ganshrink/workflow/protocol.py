"""What protocols say of all metrics of a run alike: which images were scored, and what else the values hang on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganshrink.data import Images, Latents
from ganshrink.data.images import whole_of
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
    """The batches whose targets `metrics.reals` names besides those of the images scored."""
    sources = {"scored": [], "train": [*(trained or ())][:1], "all": [*(trained or ())][:1] + [images]}
    for source in sources[config.reals]:
        if source is not None:
            yield from all_batches(source, config.batch_size)


def _sees_its_batch(network: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) and module.running_mean is None for module in network.modules())
