import math

import pytest
import torch
from torch import Tensor

from ganshrink.losses import structural_similarity


def images(seed: int, size: tuple[int, int] = (9, 14), n: int = 2) -> Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def naive_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Window by window in float64, one image after the other: (B,). Differentiable."""
    weights = torch.tensor(
        [[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)],
        dtype=torch.float64,
    )
    weights = weights / weights.sum()
    means = []
    for a, b in zip(x.double(), y.double(), strict=True):
        values = []
        for p, q in zip(a, b, strict=True):
            height, width = p.shape
            around = [torch.zeros(height + 10, width + 10, dtype=torch.float64) for _ in range(2)]
            around[0][5:-5, 5:-5], around[1][5:-5, 5:-5] = p, q
            for row in range(height):
                for column in range(width):
                    u, v = (z[row : row + 11, column : column + 11] for z in around)
                    mean_u, mean_v = (weights * u).sum(), (weights * v).sum()
                    spread_u = (weights * u * u).sum() - mean_u**2
                    spread_v = (weights * v * v).sum() - mean_v**2
                    both = (weights * u * v).sum() - mean_u * mean_v
                    above = (2 * mean_u * mean_v + 1e-4) * (2 * both + 9e-4)
                    below = (mean_u**2 + mean_v**2 + 1e-4) * (spread_u + spread_v + 9e-4)
                    values.append(above / below)
        means.append(torch.stack(values).mean())
    return torch.stack(means)


def test_equals_the_naive_transcription():
    x = images(0)
    for y in (images(1), 0.8 * x + 0.2 * images(1)):  # nothing in common, and much
        torch.testing.assert_close(structural_similarity(x, y), naive_ssim(x, y).float())


def test_equal_images_are_at_one_and_the_order_does_not_matter():
    x, y = images(0), images(1)
    assert structural_similarity(x, x).tolist() == pytest.approx([1, 1], abs=1e-6)
    torch.testing.assert_close(structural_similarity(x, y), structural_similarity(y, x))
    flat = torch.full_like(x, -1)
    assert structural_similarity(flat, flat).tolist() == pytest.approx([1, 1], abs=1e-4)


def test_each_image_is_compared_by_itself():
    x, y = images(0, n=3), images(1, n=3)
    y[1] = x[1]
    alone = torch.cat([structural_similarity(x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(structural_similarity(x, y), alone)
    assert alone[1] == pytest.approx(1, abs=1e-6) and alone[0] < 0.5


def test_images_smaller_than_the_window_have_a_similarity_too():
    x, y = images(0, (3, 1)), images(1, (3, 1))
    torch.testing.assert_close(structural_similarity(x, y), naive_ssim(x, y).float())


def test_gradients_of_both_images_are_those_of_the_plain_formula():
    shares = torch.tensor([1.0, 3.0])
    grads = []
    for function in (structural_similarity, naive_ssim):
        x, y = images(0, (6, 7)).requires_grad_(), images(1, (6, 7)).requires_grad_()
        (shares * function(x, y)).sum().backward()
        grads.append((x.grad, y.grad))
    for ours, naive in zip(*grads, strict=True):
        assert naive.abs().amax((1, 2, 3)).min() > 0
        torch.testing.assert_close(ours, naive, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float32_whatever_the_images_and_autocast_say(dtype):
    x, y = images(0).to(dtype), images(1).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        ours = structural_similarity(x, y)
    assert ours.dtype == torch.float32
    assert ours.equal(structural_similarity(x.float(), y.float()))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"got \(2, 3, 9, 14\) and \(1, 3, 9, 14\)"):
        structural_similarity(images(0), images(1)[:1])
    with pytest.raises(ValueError, match=r"\(B, C, H, W\) of one shape, got \(3, 9, 14\)"):
        structural_similarity(images(0)[0], images(1)[0])
