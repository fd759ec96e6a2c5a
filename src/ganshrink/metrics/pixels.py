"""PSNR and SSIM (Wang et al. 2004) of saved pictures, against the target or the teacher's output (agreement).

Each is the mean over images, as the field reports it; both are computed on 0..255 values by torchmetrics.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from ganshrink.metrics.value import AGAINST, Against, Listed, Pictures, Protocolled, Seen, Setup, Value

PSNR_CAP = 100.0
SSIM_WINDOW = 11

Measure = Callable[[Tensor, Tensor], Tensor]


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


def interval_of_mean(values: Sequence[float], resamples: int = 2000) -> tuple[float, float]:
    """Within which 95 % of the means lie of as many values, drawn from these with replacement."""
    drawn = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(np.asarray(values)[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


MEASURES: dict[str, tuple[Measure, dict[str, Protocolled]]] = {
    "psnr": (psnr_per_image, {"peak": 255, "unit": "dB", "cap": PSNR_CAP}),
    "ssim": (ssim_per_image, {"data_range": 255, "window": "Gaussian 11x11, sigma 1.5, no border"}),
}


class Similarity:
    """The mean over images of one of `MEASURES`, generated pictures against a reference; higher is better."""

    def __init__(self, measure: Literal["psnr", "ssim"], *, against: Against, split: str) -> None:
        self.name = measure if against == "target" else f"{measure}_teacher"
        self.needs: frozenset[str] = frozenset({"teacher" if against == "teacher" else "pairs"})
        self.measure, self.details = MEASURES[measure]
        self.against: Against = against
        self.split = split
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.values: list[float] = []

    def update(self, batch: Pictures) -> None:
        if batch.fake is None:
            return
        values = self.measure(batch.saved("fake"), batch.saved(self.against))
        self.values += values.cpu().double().tolist()
        self.seen.add(batch.fake)

    def compute(self) -> Value:
        protocol = self.seen.protocol(self.name) | {
            "resize": "none",
            "against": AGAINST[self.against],
            "average": "over images",
        }
        protocol |= self.details
        low, high = interval_of_mean(self.values)
        protocol |= {"low": low, "high": high, "interval": "95 % by bootstrap over images, seed 0"}
        return Value(float(np.mean(self.values)), "higher", protocol)


def _listed(measure: Literal["psnr", "ssim"], against: Against, about: str) -> Listed:
    def make(setup: Setup) -> Similarity:
        return Similarity(measure, against=against, split=setup.split)

    return Listed(make, "higher", "pairs" if against == "target" else "teacher", about)


PSNR = _listed("psnr", "target", "peak signal-to-noise ratio, dB, at most 100")
SSIM = _listed("ssim", "target", "structural similarity, 11 x 11 Gaussian window")
PSNR_TEACHER = _listed("psnr", "teacher", "PSNR against the teacher's picture")
SSIM_TEACHER = _listed("ssim", "teacher", "SSIM against the teacher's picture")
