import pytest
import torch
from torch.nn.functional import binary_cross_entropy, mse_loss

from ganshrink.losses import discriminator_loss, generator_loss

REAL = torch.tensor([[-2.0, 0.3], [1.5, 4.0]])
FAKE = torch.tensor([[-3.0, -0.2], [0.7, 2.0]])


def naive(mode: str) -> tuple[float, float, float]:
    """D_real, D_fake, G, score by score."""
    real, fake = REAL.flatten().tolist(), FAKE.flatten().tolist()
    if mode == "hinge":
        d_real = [max(0, 1 - r) for r in real]
        d_fake = [max(0, 1 + f) for f in fake]
        g = [-f for f in fake]
    else:
        d_real, d_fake, g = [(r - 1) ** 2 for r in real], [f**2 for f in fake], [(f - 1) ** 2 for f in fake]
    return sum(d_real) / 4, sum(d_fake) / 4, sum(g) / 4


@pytest.mark.parametrize("mode", ["hinge", "lsgan"])
def test_equals_the_formulas(mode):
    d_real, d_fake, g = naive(mode)
    ours = discriminator_loss(REAL, FAKE, mode=mode)
    assert [x.item() for x in ours] == pytest.approx([0.5 * d_real, 0.5 * d_fake])
    assert generator_loss(FAKE, mode=mode).item() == pytest.approx(g)


def test_vanilla_is_cross_entropy_on_probabilities():
    ones, zeros = torch.ones_like(REAL), torch.zeros_like(REAL)
    d_real, d_fake = discriminator_loss(REAL, FAKE, mode="vanilla", weight=1)
    torch.testing.assert_close(d_real, binary_cross_entropy(REAL.sigmoid(), ones))
    torch.testing.assert_close(d_fake, binary_cross_entropy(FAKE.sigmoid(), zeros))
    torch.testing.assert_close(
        generator_loss(FAKE, mode="vanilla"), binary_cross_entropy(FAKE.sigmoid(), ones)
    )


def test_vanilla_survives_confident_scores():
    _, d_fake = discriminator_loss(REAL, torch.full((4,), 1e4), mode="vanilla", weight=1)
    assert d_fake.item() == 1e4


def test_losses_are_float32_whatever_the_scores_are():
    half = FAKE.bfloat16()
    assert generator_loss(half, mode="lsgan").dtype == torch.float32
    torch.testing.assert_close(generator_loss(half, mode="lsgan"), mse_loss(half.float(), torch.ones(2, 2)))


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match="hinge, lsgan, vanilla, got 'wgan'"):
        discriminator_loss(REAL, FAKE, mode="wgan")
    with pytest.raises(ValueError, match="got 'wgan'"):
        generator_loss(FAKE, mode="wgan")
