"""Data sets of input-target pairs, checked before use, and the endless stream of batches drawn from them."""

from ganshrink.data.batches import Batches
from ganshrink.data.config import Counts, DataConfig, Split
from ganshrink.data.facades import SyntheticFacades
from ganshrink.data.inputs import InputSpec, class_colours, input_spec, prepare, preview_input
from ganshrink.data.labelled import LabelledImages
from ganshrink.data.opening import Images, check, open_dataset
from ganshrink.data.paired import PairedImages
from ganshrink.data.pictures import read_image, read_labels, to_tensor, to_uint8, write_png
from ganshrink.data.tensors import Part, TensorPairs, hold_out

__all__ = [
    "Batches",
    "Counts",
    "DataConfig",
    "Images",
    "InputSpec",
    "LabelledImages",
    "PairedImages",
    "Part",
    "Split",
    "SyntheticFacades",
    "TensorPairs",
    "check",
    "class_colours",
    "hold_out",
    "input_spec",
    "open_dataset",
    "prepare",
    "preview_input",
    "read_image",
    "read_labels",
    "to_tensor",
    "to_uint8",
    "write_png",
]
