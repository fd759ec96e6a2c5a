import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganshrink.losses import shift_consistency
from ganshrink.losses.shift_consistency import moved


def picture(height: int = 24, width: int = 32) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("right", "down"), [(0, 0), (3, 0), (-4, 2), (1, -3), (-2, -1)])
def test_a_moved_picture_is_its_pixels_elsewhere_and_mirrored_at_the_borders(right, down):
    x = picture(6, 7)
    by_hand = torch.empty_like(x)
    for row in range(6):
        for column in range(7):
            i, j = abs(row - down), abs(column - right)
            i, j = min(i, 10 - i), min(j, 12 - j)
            by_hand[..., row, column] = x[..., i, j]
    assert torch.equal(moved(x, right, down), by_hand)


def test_maps_of_ids_move_as_pictures_do():
    ids = torch.randint(0, 35, (2, 1, 6, 7), generator=torch.Generator().manual_seed(1))
    assert moved(ids, 3, -2).dtype == torch.int64
    assert torch.equal(moved(ids, 3, -2).double(), moved(ids.double(), 3, -2))


def naive(network: nn.Module, x: Tensor, right: int, down: int, scale: int = 1) -> Tensor:
    """Pixel by pixel, away from the borders."""
    made, again = network(x), network(moved(x, right, down))
    height, width = made.shape[-2:]
    top, side = height // 8 + abs(down * scale), width // 8 + abs(right * scale)
    found = [
        (again[..., row + down * scale, column + right * scale] - made[..., row, column]).abs().mean()
        for row in range(top, height - top)
        for column in range(side, width - side)
    ]
    return torch.stack(found).mean()


class Halved(nn.Module):
    """Every other pixel, enlarged again: it commutes with shifts by two pixels, not by one."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x[..., ::2, ::2], scale_factor=2.0)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-4, 3), (0, -1)])
def test_what_sticks_to_the_screen_costs_its_distance_and_what_moves_along_nothing(right, down):
    x = picture()
    loss = shift_consistency(Halved()(x), Halved()(moved(x, right, down)), right, down)
    torch.testing.assert_close(loss, naive(Halved(), x, right, down))
    assert loss > 0.1
    smooth = nn.Conv2d(3, 3, 5, padding=2).requires_grad_(False)
    assert shift_consistency(smooth(x), smooth(moved(x, right, down)), right, down) < 1e-6
    assert shift_consistency(Halved()(x), Halved()(moved(x, 2, -2)), 2, -2) == 0


def test_outputs_that_are_larger_move_by_as_much_more():
    x, larger = picture(), nn.Upsample(scale_factor=2.0)
    assert shift_consistency(larger(x), larger(moved(x, 3, -1)), 6, -2) == 0
    assert shift_consistency(larger(x), larger(moved(x, 3, -1)), 3, -1) > 0.1
    enlarged = nn.Sequential(Halved(), larger)
    loss = shift_consistency(enlarged(x), enlarged(moved(x, 3, -1)), 6, -2)
    torch.testing.assert_close(loss, naive(enlarged, x, 3, -1, scale=2))
