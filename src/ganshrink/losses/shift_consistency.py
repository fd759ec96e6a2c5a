"""What makes a film flicker, as a loss: where the input moves by a few pixels, the output is to move and nothing else.

No films are needed for it: a moved picture is its own next frame (the transform invariance of Eilertsen et al. 2019).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 4  # input pixels that a picture is moved by, at most
MARGIN = 8  # of a side: the part at each border that is left out, since the moved picture is mirrored there


def moved(picture: Tensor, right: int, down: int) -> Tensor:
    """A picture (B, C, H, W) moved by whole pixels, mirrored at the borders that come into view."""
    for axis, by in ((-2, down), (-1, right)):  # by index, since torch's padding takes no maps of ids
        last = picture.shape[axis] - 1
        come_from = torch.arange(last + 1, device=picture.device) - by
        picture = picture.index_select(axis, last - (last - come_from.abs()).abs())
    return picture


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
