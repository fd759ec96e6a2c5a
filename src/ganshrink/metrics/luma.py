"""PSNR and SSIM as papers on super-resolution report them: of the luminance alone, without the border."""

from torch import Tensor

from ganshrink.metrics.mean import MeanOverImages, View, compared
from ganshrink.metrics.pixels import MEASURES
from ganshrink.metrics.resampling import mean_of
from ganshrink.metrics.value import Kind, Listed, Pictures, Protocolled, Setup

WEIGHTS = (65.481, 128.553, 24.966)


def luma(pictures: Tensor) -> Tensor:
    """Y (N, 1, H, W) in 16..235 of uint8 RGB pictures: BT.601 as MATLAB's rgb2ycbcr has it, not rounded."""
    red, green, blue = pictures.float().split(1, dim=1)
    return 16 + (WEIGHTS[0] * red + WEIGHTS[1] * green + WEIGHTS[2] * blue) / 255


def without_border(border: int | None) -> View:
    """Y without so many pixels on each side; none: as many as the picture is times larger than the input."""

    def view(batch: Pictures, kind: Kind) -> Tensor:
        cut = border if border is not None else batch.scale if batch.scale > 1 else 0
        y = luma(batch.rgb(kind))
        height, width = y.shape[-2:]
        if 2 * cut >= min(height, width):
            raise ValueError(f"metrics.border = {cut} leaves nothing of pictures of {width}x{height}")
        return y[..., cut : height - cut, cut : width - cut]

    return view


def _listed(name: str, about: str) -> Listed:
    function, said = MEASURES[name.removesuffix("_y")]

    def make(setup: Setup) -> MeanOverImages:
        border = setup.config.border
        details: dict[str, Protocolled] = dict(said)
        details |= {
            "channel": "Y of BT.601 (MATLAB's rgb2ycbcr), not rounded",
            "border": "the scale, 0 for 1" if border is None else border,
        }
        measure = compared(function, "target", without_border(border))
        return MeanOverImages(
            name, measure, against="target", better="higher", split=setup.split, details=details
        )

    return Listed(make, "higher", "pairs", about, mean_of)


PSNR_Y = _listed("psnr_y", "PSNR of luminance without the border, as papers on super-resolution report it")
SSIM_Y = _listed("ssim_y", "SSIM of the same")
