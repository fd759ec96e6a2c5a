"""What makes a film flicker, as a loss: where the input moves by a few pixels, the output is to move and nothing else.

No films are needed for it: a moved picture is its own next frame (the transform invariance of Eilertsen et al. 2019).
"""

import torch.nn.functional as F
from torch import Tensor

REACH = 4  # input pixels that a picture is moved by, at most
MARGIN = 8  # of a side: the part at each border that is left out, since the moved picture is mirrored there


def moved(picture: Tensor, right: int, down: int) -> Tensor:
    """A picture (B, C, H, W) moved by whole pixels, mirrored at the borders that come into view."""
    height, width = picture.shape[-2:]
    sides = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    padded = F.pad(picture, sides, mode="reflect")
    return padded[..., max(-down, 0) :, max(-right, 0) :][..., :height, :width]


def shift_consistency(made: Tensor, again: Tensor, right: int, down: int) -> Tensor:
    """The mean |difference| of an output and that of the moved input, moved back, without the borders.

    Args:
        made: what the generator makes of a picture, (B, C, H, W).
        again: what it makes of the picture moved by `right` and `down`, which are in pixels of the output.

    Returns:
        A float32 scalar.
    """
    height, width = made.shape[-2:]
    top, side = (part // MARGIN + abs(by) for part, by in ((height, down), (width, right)))
    inside = made[..., top : height - top, side : width - side]
    back = again[..., top + down : height - top + down, side + right : width - side + right]
    return F.l1_loss(back.float(), inside.float())
