"""Few bits: GAN Slimming's quantizers for training, calibration on images, and the integers that a file holds."""

from ganshrink.quant.calibration import attached, calibrate, spread
from ganshrink.quant.config import QuantConfig, QuantizationConfig
from ganshrink.quant.deployed import deploy
from ganshrink.quant.fake import quantize_activation, quantize_weight
from ganshrink.quant.grid import Grid, Grids, LayerGrids
from ganshrink.quant.quantizers import Quantizers

__all__ = [
    "Grid",
    "Grids",
    "LayerGrids",
    "QuantConfig",
    "QuantizationConfig",
    "Quantizers",
    "attached",
    "calibrate",
    "deploy",
    "quantize_activation",
    "quantize_weight",
    "spread",
]
