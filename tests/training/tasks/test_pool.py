"""The history of generated images: it fills, then exchanges half, and survives a kill."""

import pytest
import torch
from torch import Tensor

from ganshrink.training.tasks.pool import ImagePool


def numbered(*numbers: int) -> Tensor:
    """Images (B, 1, 2, 2) that hold their number."""
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def numbers(images: Tensor | list[Tensor]) -> list[int]:
    return [int(image.mean()) for image in images]


def full(size: int) -> ImagePool:
    pool = ImagePool(size)
    pool.exchange(numbered(*range(size)))
    return pool


def test_until_it_is_full_images_go_in_and_come_straight_out():
    pool = ImagePool(5)
    assert numbers(pool.exchange(numbered(0, 1, 2))) == [0, 1, 2]
    assert numbers(pool.exchange(numbered(3, 4))) == [3, 4]
    assert numbers(pool.images) == [0, 1, 2, 3, 4]


def test_afterwards_half_are_exchanged_for_any_earlier_one_and_none_is_lost():
    torch.manual_seed(0)
    size, count = 10, 2000
    pool = full(size)
    shown = [numbers(pool.exchange(numbered(n)))[0] for n in range(size, size + count)]
    exchanged = [n for n, out in enumerate(shown, start=size) if out != n]
    assert abs(len(exchanged) - count / 2) < 4.5 * (count / 4) ** 0.5
    assert sorted(shown + numbers(pool.images)) == list(range(size + count))
    # An image stays for as long as its place is not drawn: on average `size` exchanges.
    waits = [n - out for n, out in enumerate(shown, start=size) if out != n]
    assert sum(waits) / len(waits) == pytest.approx(2 * size, rel=0.2)


def test_a_batch_is_exchanged_image_by_image():
    torch.manual_seed(1)
    shown = numbers(full(4).exchange(numbered(*range(4, 36))))
    new = [out == n for n, out in enumerate(shown, start=4)]
    assert any(new) and not all(new)


def test_of_size_0_it_is_not_there():
    images = numbered(1, 2)
    assert ImagePool(0).exchange(images) is images


def test_it_keeps_copies():
    """What a network writes in place later is no earlier image."""
    pool, images = ImagePool(2), numbered(1, 2).clone()
    pool.exchange(images)
    images.zero_()
    assert numbers(pool.images) == [1, 2]


def test_its_state_survives():
    pool = full(5)
    again = ImagePool(5)
    again.load_state_dict(pool.state_dict())
    shown = []
    for one in (pool, again):
        torch.manual_seed(2)
        shown.append(numbers(one.exchange(numbered(*range(10, 20)))))
    assert shown[0] == shown[1] != list(range(10, 20))
    assert numbers(pool.images) == numbers(again.images)


def test_images_loaded_onto_the_cpu_come_out_where_the_new_ones_are():
    """A checkpoint is read on the CPU; the meta device stands in for an accelerator."""
    pool = full(1)
    for seed in range(8):
        torch.manual_seed(seed)
        again = ImagePool(1)
        again.load_state_dict(pool.state_dict())
        assert again.exchange(torch.empty(2, 1, 2, 2, device="meta")).device.type == "meta"
