"""The history of generated images that a discriminator is shown (Shrivastava et al. 2017, section 2.3)."""

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """At most `size` earlier images. Until it is full every image goes in and comes straight out; from then on every
    other one, by chance, is exchanged for an earlier one. Draws from torch's CPU generator, which the loop seeds.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def exchange(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) for as many images, some of them earlier ones."""
        return torch.stack([self._exchange_one(image) for image in images]) if self.size else images

    def _exchange_one(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if torch.rand(()) < 0.5:
            return image
        place = int(torch.randint(self.size, ()))
        earlier, self.images[place] = self.images[place], image.clone()
        return earlier.to(image)  # a checkpoint comes back on the CPU

    def state_dict(self) -> dict[str, Any]:
        return {"images": list(self.images)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.images = list(state["images"])
