"""PSNR and SSIM (Wang et al. 2004) of saved pictures, against the target or the teacher's output (agreement).

Each is the mean over images, as the field reports it; both are computed on 0..255 values by torchmetrics.
"""

from typing import Literal

from torch import Tensor

from ganshrink.metrics.mean import MeanOverImages, Measure, compared
from ganshrink.metrics.resampling import mean_of
from ganshrink.metrics.value import Against, Listed, Protocolled, Setup

PSNR_CAP = 100.0
SSIM_WINDOW = 11


def psnr_per_image(images: Tensor, reference: Tensor) -> Tensor:
    """PSNR in dB (N,) of uint8 pictures (N, C, H, W), peak 255.

    At most 100 dB, so that equal pictures, whose PSNR is infinite, neither swamp a mean nor break JSON (one
    level in one value of a 256x256 picture is 101 dB).
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio  # takes 0.5-1.2 s

    values = peak_signal_noise_ratio(
        images.double(), reference.double(), data_range=255.0, dim=(1, 2, 3), reduction="none"
    )
    return values.clamp_max(PSNR_CAP)


def ssim_per_image(images: Tensor, reference: Tensor) -> Tensor:
    """SSIM (N,) of uint8 pictures (N, C, H, W): 11x11 Gaussian window (sigma 1.5), K 0.01, 0.03, mean of channels.

    Raises:
        ValueError: a side is shorter than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes 0.5-1.2 s

    if min(images.shape[-2:]) < SSIM_WINDOW:
        height, width = images.shape[-2:]
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW}x{SSIM_WINDOW}, got {width}x{height}")
    _, per_window = structural_similarity_index_measure(
        images.float(), reference.float(), data_range=255.0, reduction="none", return_full_image=True
    )
    # torchmetrics averages over windows that hang over a mirrored border too; the paper has whole windows alone.
    border = SSIM_WINDOW // 2
    return per_window[..., border:-border, border:-border].mean(dim=(1, 2, 3))


MEASURES: dict[str, tuple[Measure, dict[str, Protocolled]]] = {
    "psnr": (psnr_per_image, {"peak": 255, "unit": "dB", "cap": PSNR_CAP}),
    "ssim": (ssim_per_image, {"data_range": 255, "window": "Gaussian 11x11, sigma 1.5, no border"}),
}


def similarity(measure: Literal["psnr", "ssim"], *, against: Against, split: str) -> MeanOverImages:
    """The mean over images of one of `MEASURES`, generated pictures against a reference; higher is better."""
    name = measure if against == "target" else f"{measure}_teacher"
    function, details = MEASURES[measure]
    return MeanOverImages(
        name, compared(function, against), against=against, better="higher", split=split, details=details
    )


def _listed(measure: Literal["psnr", "ssim"], against: Against, about: str) -> Listed:
    def make(setup: Setup) -> MeanOverImages:
        return similarity(measure, against=against, split=setup.split)

    return Listed(make, "higher", "pairs" if against == "target" else "teacher", about, mean_of)


PSNR = _listed("psnr", "target", "peak signal-to-noise ratio, dB, at most 100")
SSIM = _listed("ssim", "target", "structural similarity, 11 x 11 Gaussian window")
PSNR_TEACHER = _listed("psnr", "teacher", "PSNR against the teacher's picture")
SSIM_TEACHER = _listed("ssim", "teacher", "SSIM against the teacher's picture")
