"""Data sets, checked before use, and the endless stream of batches drawn from them."""

from ganshrink.data.batches import Batches, PairedWithUnlabelled
from ganshrink.data.config import Counts, DataConfig, Split
from ganshrink.data.facades import SyntheticFacades
from ganshrink.data.images import Images, check
from ganshrink.data.inputs import InputSpec, class_colours, input_spec, prepare, preview_input
from ganshrink.data.labelled import LabelledImages
from ganshrink.data.latents import Latents, seeded_latents
from ganshrink.data.opening import DATASETS, open_dataset, open_unlabelled
from ganshrink.data.paired import PairedImages
from ganshrink.data.photos import Photos
from ganshrink.data.pictures import read_image, read_labels, to_tensor, to_uint8, write_png
from ganshrink.data.pixels import as_picture, write_picture
from ganshrink.data.tensors import Subset, TensorInputs, TensorPairs, hold_out
from ganshrink.data.unlabelled import InputsAlone, joined
from ganshrink.data.unpaired import UnpairedImages

__all__ = [
    "DATASETS",
    "Batches",
    "PairedWithUnlabelled",
    "Counts",
    "DataConfig",
    "Images",
    "InputSpec",
    "InputsAlone",
    "LabelledImages",
    "Latents",
    "PairedImages",
    "Subset",
    "as_picture",
    "write_picture",
    "Photos",
    "Split",
    "SyntheticFacades",
    "TensorInputs",
    "TensorPairs",
    "UnpairedImages",
    "check",
    "class_colours",
    "hold_out",
    "input_spec",
    "joined",
    "open_dataset",
    "open_unlabelled",
    "prepare",
    "preview_input",
    "read_image",
    "read_labels",
    "seeded_latents",
    "to_tensor",
    "to_uint8",
    "write_png",
]
