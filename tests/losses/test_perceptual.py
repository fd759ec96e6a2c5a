import pytest
import torch
from torch import Tensor

from ganshrink.losses import gram, perceptual_distance

STYLE = ("a", "b")


def features(seed: int, n: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (n, 4, 5, 6), "b": (n, 3, 2, 3)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def naive_gram(x: Tensor) -> Tensor:
    """One image (C, H, W), entry by entry, in float64."""
    channels = [
        [float(x[c, h, w]) for h in range(x.shape[1]) for w in range(x.shape[2])] for c in range(len(x))
    ]
    entries = [
        [sum(p * q for p, q in zip(a, b, strict=True)) / x.numel() for b in channels] for a in channels
    ]
    return torch.tensor(entries, dtype=torch.float64)


def naive_distance(x: dict[str, Tensor], y: dict[str, Tensor], weight: float) -> float:
    """The distance of each image alone, averaged over images."""
    distances = []
    for n in range(len(x["a"])):
        content = float((x["a"][n].double() - y["a"][n].double()).abs().mean())
        style = sum(float((naive_gram(x[k][n]) - naive_gram(y[k][n])).square().mean()) for k in STYLE)
        distances.append(content + weight * style)
    return sum(distances) / len(distances)


def test_gram_equals_the_naive_transcription():
    x = features(0)["a"]
    torch.testing.assert_close(gram(x).double(), torch.stack([naive_gram(image) for image in x]))


@pytest.mark.parametrize("weight", [0.0, 3.0, 1e5])
def test_distance_equals_the_naive_transcription(weight):
    x, y = features(0), features(1)
    ours = perceptual_distance(x, y, content="a", style=STYLE, style_weight=weight)
    assert ours.item() == pytest.approx(naive_distance(x, y, weight), rel=1e-5)


def test_the_default_weight_of_style_is_that_of_the_released_code():
    x, y = features(0), features(1)
    ours = perceptual_distance(x, y, content="a", style=STYLE)
    assert ours.item() == pytest.approx(naive_distance(x, y, 1e5), rel=1e-5)


def test_zero_for_equal_images():
    assert perceptual_distance(features(0), features(0), content="b", style=STYLE).item() == 0


def test_style_does_not_see_where_things_are_and_content_does():
    x = features(0)
    mirrored = {name: tensor.flip(3) for name, tensor in x.items()}
    distances = [
        perceptual_distance(x, mirrored, content="a", style=STYLE, style_weight=w).item() for w in (0, 1)
    ]
    assert distances[0] > 0.5
    assert distances[1] == pytest.approx(distances[0], abs=1e-6)


def test_gradients_of_both_terms_reach_the_features():
    x, y = features(0), features(1)
    for tensor in x.values():
        tensor.requires_grad_()
    perceptual_distance(x, y, content="a", style=["b"]).backward()
    pixels = x["a"].numel()
    torch.testing.assert_close(x["a"].grad, (x["a"].detach() - y["a"]).sign() / pixels)
    # d mean((G - H)^2) / dF = 4 (G - H) F / (entries * C*H*W), G being symmetric
    rows = x["b"].detach().flatten(2)
    pull = 4e5 * (gram(x["b"].detach()) - gram(y["b"])) @ rows / (3 * 3 * 3 * 18)
    torch.testing.assert_close(x["b"].grad.flatten(2), pull)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_give_the_float32_value_under_autocast(dtype):
    x, y = ({name: (300 * t).to(dtype) for name, t in features(seed).items()} for seed in (0, 1))
    whole = [{name: t.float() for name, t in part.items()} for part in (x, y)]
    expected = perceptual_distance(*whole, content="a", style=STYLE)
    with torch.autocast("cpu", torch.bfloat16):
        ours = perceptual_distance(x, y, content="a", style=STYLE)
        assert gram(x["a"]).dtype == torch.float32
    assert ours.dtype == torch.float32
    assert ours.item() == expected.item()


def test_features_that_do_not_belong_together_are_refused():
    x, y = features(0), features(1)
    with pytest.raises(ValueError, match="no features of layer 'relu9', only of a, b"):
        perceptual_distance(x, y, content="relu9", style=STYLE)
    with pytest.raises(ValueError, match="no features of layer 'b', only of a"):
        perceptual_distance(x, {"a": y["a"]}, content="a", style=STYLE)
    with pytest.raises(ValueError, match=r"features of b to compare are \(3, 3, 2, 3\) and \(1, 3, 2, 3\)"):
        perceptual_distance(x, y | {"b": y["b"][:1]}, content="a", style=STYLE)
    with pytest.raises(ValueError, match=r"features \(B, C, H, W\), got \(4, 5, 6\)"):
        gram(x["a"][0])
