"""An encoder of instances after its training: its file, with what a map without a photo is given."""

from pathlib import Path

import torch

from ganshrink.data import Images, input_spec
from ganshrink.data.instance_features import encoder_note
from ganshrink.nets.instance_encoder import InstanceEncoder
from ganshrink.training.stages import save_tensors

LOOKED_AT = 200  # training images, spread over all, that the means of classes are of


def save_encoder(path: Path, encoder: InstanceEncoder, images: Images) -> None:
    """Write an encoder, and the mean features that each class has over the pixels of the training images; zero where no
    pixel has the class."""
    spec = input_spec(images)
    sums = torch.zeros(spec.classes, spec.num_features, dtype=torch.float64)
    pixels = torch.zeros(spec.classes, 1, dtype=torch.float64)
    count = min(len(images), LOOKED_AT)
    for place in range(count):
        sample = images.sample(place * len(images) // count, None)
        with torch.no_grad():
            [features] = encoder(sample["target"][None], sample["instances"][None])
        classes = sample["input"][: spec.classes].flatten(1).double()
        sums += classes @ features.flatten(1).T.double()
        pixels += classes.sum(1, keepdim=True)
    means = (sums / pixels.clamp(min=1)).tolist()
    note = encoder_note(encoder, tuple(tuple(row) for row in means))
    save_tensors(path, encoder.state_dict(), note)
