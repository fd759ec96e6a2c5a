"""A feature network as the distances see it: pictures to vectors, and what the protocol must say about it."""

from dataclasses import dataclass

from torch import Tensor, nn

from ganshrink.metrics.value import Kind, Pictures, Protocolled


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """`module` maps uint8 pictures (N, 3, H, W) to features (N, dim); it resizes them as `resize` says."""

    name: str
    module: nn.Module
    dim: int
    resize: str
    sha256: str

    def of(self, batch: Pictures, kind: Kind) -> Tensor:
        """Features (N, dim) of the batch's pictures, computed once for all distances over this network."""
        return batch.once((id(self), kind), lambda: self.module(batch.rgb(kind)))

    def protocol(self) -> dict[str, Protocolled]:
        """What a distance over this network states about it."""
        return {
            "network": self.name,
            "weights_sha256": self.sha256,
            "resize": self.resize,
            "dimension": self.dim,
        }
