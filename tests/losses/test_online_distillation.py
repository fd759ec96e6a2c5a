import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ganshrink.losses import OnlineWeights, look, online_distillation, reduced, structural_similarity


def images(seed: int, n: int = 3) -> Tensor:
    return torch.rand(n, 3, 6, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Features(nn.Module):
    """Three small layers, the last at half the size; counts the images it has seen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.requires_grad_(False)
        self.seen = 0

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        self.seen += len(image)
        early = self.first(image).relu()
        middle = self.second(early).relu()
        return {"relu1_2": early, "relu2_2": middle, "relu3_1": avg_pool2d(middle, 2)}


def naive_gram(x: Tensor) -> Tensor:
    """One image's features (C, H, W), entry by entry, in float64."""
    return torch.stack([torch.stack([(a * b).sum() for b in x.double()]) for a in x.double()]) / x.numel()


def naive_terms(student: Tensor, teacher: Tensor, features: Features) -> dict[str, list[float]]:
    """The released code's loss, of one image after the other, as a batch of one each."""
    terms: dict[str, list[float]] = {"ssim": [], "style": [], "feature": [], "tv": []}
    for s, t in zip(student, teacher, strict=True):
        ours, theirs = features(s[None]), features(t[None])
        grams = [(naive_gram(ours[name][0]) - naive_gram(theirs[name][0])).abs().mean() for name in ours]
        rows = sum(float((s[:, y + 1] - s[:, y]).abs().sum()) for y in range(s.shape[1] - 1))
        columns = sum(float((s[:, :, x + 1] - s[:, :, x]).abs().sum()) for x in range(s.shape[2] - 1))
        terms["ssim"].append(10 * (1 - structural_similarity(s[None], t[None]).item()))
        terms["style"].append(1e4 * float(sum(grams)))
        terms["feature"].append(10 * float((ours["relu2_2"] - theirs["relu2_2"]).double().abs().mean()))
        terms["tv"].append(1e-5 * (rows + columns))
    return terms


def test_each_term_equals_the_naive_transcription_image_by_image():
    features = Features()
    terms = online_distillation(look(images(0), features), look(images(1), features))
    expected = naive_terms(images(0), images(1), features)
    assert list(terms) == ["ssim", "style", "feature", "tv"]
    for name, values in terms.items():
        assert values.dtype == torch.float32
        assert values.tolist() == pytest.approx(expected[name], rel=1e-4), name


def test_weights_are_factors():
    features, weights = Features(), OnlineWeights(ssim=3, style=7, feature=0.5, tv=2)
    terms = online_distillation(look(images(0), features, weights), look(images(1), features, weights))
    expected = naive_terms(images(0), images(1), features)
    factors = {"ssim": 3 / 10, "style": 7 / 1e4, "feature": 0.5 / 10, "tv": 2 / 1e-5}
    for name, values in terms.items():
        assert values.tolist() == pytest.approx([factors[name] * e for e in expected[name]], rel=1e-4)


def test_only_tv_is_left_of_equal_images():
    features = Features()
    terms = online_distillation(look(images(0), features), look(images(0), features))
    assert terms["style"].tolist() == terms["feature"].tolist() == [0, 0, 0]
    assert terms["ssim"].tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert terms["tv"].min() > 0


def test_a_batch_has_the_means_of_its_images_and_the_sum_of_their_tv():
    features = Features()
    terms = online_distillation(look(images(0), features), look(images(1), features))
    losses = reduced(terms)
    for name, values in naive_terms(images(0), images(1), features).items():
        expected = sum(values) if name == "tv" else sum(values) / 3
        assert losses[name].shape == () and losses[name].item() == pytest.approx(expected, rel=1e-4)


def test_weights_of_images_share_the_whole_batchs_mean():
    terms = online_distillation(look(images(0), Features()), look(images(1), Features()))
    losses = reduced(terms, torch.tensor([1.0, 0.0, 0.5]))
    for name, (a, _, c) in terms.items():
        expected = (a + 0.5 * c) / (1 if name == "tv" else 3)
        torch.testing.assert_close(losses[name], expected)


def test_an_image_of_weight_zero_takes_no_part_in_the_gradient():
    features, leaf = Features(), images(0).requires_grad_()
    terms = online_distillation(look(leaf, features), look(images(1), features))
    sum(reduced(terms, torch.tensor([1.0, 0.0, 1.0])).values()).backward()
    assert leaf.grad[1].eq(0).all()
    assert leaf.grad[0].ne(0).any() and leaf.grad[2].ne(0).any()


@pytest.mark.parametrize("name", ["ssim", "style", "feature", "tv"])
def test_every_term_teaches_the_student(name):
    """Along the gradient the term falls by as much as the gradient says."""
    features, leaf = Features(), images(0).requires_grad_()
    teacher = look(images(1), features)
    online_distillation(look(leaf, features), teacher)[name].sum().backward()
    step = 1e-3 * leaf.grad / leaf.grad.norm()
    ends = [
        online_distillation(look(leaf.detach() + d, features), teacher)[name].double().sum()
        for d in (step, -step)
    ]
    assert (ends[0] - ends[1]).item() == pytest.approx(2e-3 * leaf.grad.norm().item(), rel=0.02)


def test_one_look_serves_several_teachers():
    features, leaf = Features(), images(0).requires_grad_()
    student = look(leaf, features)
    seen = features.seen
    both = [online_distillation(student, look(images(seed), features)) for seed in (1, 2)]
    assert features.seen == seen + 6  # the teachers' alone
    sum(loss for terms in both for loss in reduced(terms).values()).backward()
    ours = leaf.grad.clone()
    leaf.grad = None
    for seed in (1, 2):
        terms = online_distillation(look(leaf, features), look(images(seed), features))
        sum(reduced(terms).values()).backward()
    torch.testing.assert_close(ours, leaf.grad)


def test_what_weighs_nothing_is_not_computed():
    features = Features()

    def terms(**weights: float) -> dict[str, Tensor]:
        chosen = OnlineWeights(**weights)
        return online_distillation(look(images(0), features, chosen), look(images(1), features, chosen))

    assert list(terms(style=0, feature=0)) == ["ssim", "tv"] and features.seen == 0
    assert list(terms(ssim=0, feature=0)) == ["style", "tv"]
    assert list(terms(style=0, tv=0)) == ["ssim", "feature"]
    assert look(images(0), features, OnlineWeights(style=0)).grams == {}
    assert look(images(0), features, OnlineWeights(feature=0)).features == {}


def test_without_a_feature_network_there_are_ssim_and_tv():
    terms = online_distillation(look(images(0), None), look(images(1), None))
    assert list(terms) == ["ssim", "tv"]


def test_autocast_changes_nothing():
    features = Features()
    expected = online_distillation(look(images(0), features), look(images(1), features))
    with torch.autocast("cpu", torch.bfloat16):
        terms = online_distillation(look(images(0), features), look(images(1), features))
        losses = reduced(terms)
    for name, values in terms.items():
        assert values.dtype == losses[name].dtype == torch.float32
        assert values.equal(expected[name])


def test_half_precision_images_are_compared_in_float32():
    features = Features()
    student, teacher = images(0).bfloat16(), images(1).bfloat16()
    terms = online_distillation(look(student, features), look(teacher, features))
    whole = online_distillation(look(student.float(), features), look(teacher.float(), features))
    for name, values in terms.items():
        assert values.equal(whole[name])


def test_what_does_not_belong_together_is_refused():
    features = Features()
    with pytest.raises(
        ValueError, match=r"\(3, 3, 6, 8\) for the student and \(1, 3, 6, 8\) for the teacher"
    ):
        online_distillation(look(images(0), None), look(images(1)[:1], None))
    with pytest.raises(ValueError, match="by the layers relu1_2, relu2_2, relu3_1, the teacher by none"):
        online_distillation(look(images(0), features), look(images(1), None))
    with pytest.raises(ValueError, match=r"looked at with OnlineWeights\(ssim=10.0.*use the same"):
        online_distillation(look(images(0), None), look(images(1), None, OnlineWeights(tv=0)))
    with pytest.raises(ValueError, match="gives no relu2_2, only relu9"):
        look(images(0), lambda image: {"relu9": image})
    with pytest.raises(ValueError, match=r"one for each of the 3, got shape \(2,\)"):
        reduced({"tv": torch.ones(3)}, torch.ones(2))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="weight of style must be a number of at least 0, got "):
        OnlineWeights(style=weight)
