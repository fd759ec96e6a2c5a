"""What the report shows of a student of GAN Slimming."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ganshrink.pruning import Channels, Plan
from ganshrink.quant import QuantConfig
from ganshrink.reports.numbers import times
from ganshrink.reports.section import Section, Table, Text


def ratios(
    teacher: nn.Module,
    student: nn.Module,
    channels: Channels,
    plan: Plan,
    bits: QuantConfig | None,
    dead: Mapping[str, Any] | None,
) -> Section:
    """The paper's ratios (section 4.1) but for that of FIDs, which stand among the metrics; and what a search silenced."""
    kernels = [sum(p.numel() for p in net.parameters() if p.ndim > 1) for net in (teacher, student)]
    macs = [channels.cost(cut, "paper").macs for cut in (None, plan)]
    rows = [("float32", 32)] + ([] if bits is None else [(f"{bits.weight_bits} bits", bits.weight_bits)])
    table = [
        [name, times(32 * kernels[0] / (width * kernels[1])), times(macs[0] / macs[1])]
        for name, width in rows
    ]
    about = (
        "The teacher's over the student's: r_c: kernels (tensors of two axes or more) times their bits; r_s: "
        "multiply-accumulates, those of transposed convolutions at their output size. The ratio of FIDs: see the metrics."
    )
    said = [] if dead is None else [Text(f"In the search {about_dead(**dead)}.")]
    return Section(
        "As GAN Slimming counts", [*said, Text(about, note=True), Table(["Student", "r_c", "r_s"], table)]
    )


def about_dead(channels: int, of: int, moved: float) -> str:
    """What a search silenced: how many channels of so many, and how far that moves the images, as a share.

    What their shifts carried went to the layers that read them, so that it is not lost where it was the same everywhere.
    """
    return f"{channels} of {of} channels died; silencing them moves the images by {100 * moved:.2g} % of their size"
