import pytest
import torch
from torch import Tensor

from ganshrink.losses import kernel_alignment


def features(channels: int, seed: int, n: int = 3) -> Tensor:
    return torch.randn(n, channels, 4, 5, generator=torch.Generator().manual_seed(seed))


def alignment_of_grams(rows_x: list[Tensor], rows_y: list[Tensor]) -> float:
    """<K_x, K_y> / (|K_x| |K_y|) with explicit Gram matrices between all pairs of rows, in float64 (Eq. 1)."""
    gram_x = torch.tensor(
        [[float(a.double() @ b.double()) for b in rows_x] for a in rows_x], dtype=torch.float64
    )
    gram_y = torch.tensor(
        [[float(a.double() @ b.double()) for b in rows_y] for a in rows_y], dtype=torch.float64
    )
    return float((gram_x * gram_y).sum() / (gram_x.square().sum().sqrt() * gram_y.square().sum().sqrt()))


def pixels(x: Tensor) -> list[Tensor]:
    return [x[n, :, h, w] for n in range(x.shape[0]) for h in range(x.shape[2]) for w in range(x.shape[3])]


def orthogonal(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(9)))[0]


def test_global_equals_explicit_grams_over_pixels_for_different_widths():
    x, y = features(6, 0), features(4, 1)
    assert kernel_alignment(x, y).item() == pytest.approx(alignment_of_grams(pixels(x), pixels(y)), rel=1e-5)


def test_batch_equals_explicit_grams_over_images():
    x, y = features(6, 0), features(4, 1)
    expected = alignment_of_grams([s.flatten() for s in x], [s.flatten() for s in y])
    assert kernel_alignment(x, y, mode="batch").item() == pytest.approx(expected, rel=1e-5)


def test_centered_equals_explicit_grams_of_centered_rows():
    x, y = features(6, 0) + 2, features(4, 1) - 1
    rows_x = list(torch.stack(pixels(x)) - torch.stack(pixels(x)).mean(0))
    rows_y = list(torch.stack(pixels(y)) - torch.stack(pixels(y)).mean(0))
    assert kernel_alignment(x, y, centered=True).item() == pytest.approx(
        alignment_of_grams(rows_x, rows_y), rel=1e-4
    )


def test_invariant_to_orthogonal_channel_mixing_and_to_scale():
    x, y = features(6, 0), features(4, 1)
    mixed = torch.einsum("dc,nchw->ndhw", orthogonal(6), x)
    torch.testing.assert_close(kernel_alignment(mixed, y), kernel_alignment(x, y))
    torch.testing.assert_close(kernel_alignment(1e6 * x, 1e-6 * y), kernel_alignment(x, y))
    torch.testing.assert_close(kernel_alignment(1e12 * x, 1e-12 * y), kernel_alignment(x, y))


def test_the_order_of_pixels_matters():
    """A view in place of the permutation would not see this: channels would be mixed with places."""
    x = features(6, 0)
    assert kernel_alignment(x, x.flip(3)).item() < 0.9
    torch.testing.assert_close(kernel_alignment(x, x.flip(1)), torch.tensor(1.0))  # a permutation of channels


@pytest.mark.parametrize("mode", ["global", "batch"])
def test_one_for_identical_features(mode):
    assert kernel_alignment(features(6, 0), features(6, 0), mode=mode).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_gives_the_float32_value_under_autocast(dtype):
    x, y = (300 * features(6, 0)).to(dtype), (300 * features(4, 1)).to(dtype)
    expected = kernel_alignment(x.float(), y.float())
    with torch.autocast("cpu", torch.bfloat16):
        ours = kernel_alignment(x, y)
    assert ours.dtype == torch.float32
    assert ours.item() == expected.item()


@pytest.mark.parametrize("mode", ["global", "batch"])
def test_all_zero_features_align_with_nothing_and_give_no_gradient(mode):
    x = torch.zeros(3, 6, 4, 5, requires_grad=True)
    y = features(4, 1).requires_grad_()
    value = kernel_alignment(x, y, mode=mode)
    value.backward()
    assert value.item() == 0
    assert x.grad.eq(0).all() and y.grad.eq(0).all()


def test_gradient_is_that_of_the_plain_formula():
    x, y = features(3, 0).double(), features(2, 1)
    leaf = x.clone().requires_grad_()
    a = leaf.permute(0, 2, 3, 1).reshape(-1, 3)
    b = y.double().permute(0, 2, 3, 1).reshape(-1, 2)
    naive = (b.T @ a).square().sum() / ((a.T @ a).square().sum().sqrt() * (b.T @ b).square().sum().sqrt())
    naive.backward()
    ours = x.float().requires_grad_()
    kernel_alignment(ours, y).backward()
    torch.testing.assert_close(ours.grad.double(), leaf.grad, rtol=1e-4, atol=1e-7)


def test_features_that_do_not_belong_together_are_refused():
    x = features(6, 0)
    with pytest.raises(ValueError, match=r"\(3, 6, 4, 5\) and \(3, 6, 2, 5\)"):
        kernel_alignment(x, x[:, :, :2])
    with pytest.raises(ValueError, match="same images"):
        kernel_alignment(x, x[:2])
    with pytest.raises(ValueError, match="constantly 1 at batch size 1"):
        kernel_alignment(x[:1], x[:1], mode="batch")
    with pytest.raises(ValueError, match="got 'pixel'"):
        kernel_alignment(x, x, mode="pixel")
