import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ganshrink.losses import attention_loss, attention_map, co_attention, feature_distance, resized


def features(seed: int, channels: int = 4, size: tuple[int, int] = (5, 6), n: int = 3) -> Tensor:
    return torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(seed))


def maps(seed: int, size: tuple[int, int] = (5, 6), n: int = 3) -> Tensor:
    return features(seed, 3, size, n).square().sum(1)


def naive_map(x: Tensor) -> Tensor:
    """Eq. 7, pixel by pixel."""
    n, c, h, w = x.shape
    rows = [
        [[sum(float(x[b, j, y, z]) ** 2 for j in range(c)) for z in range(w)] for y in range(h)]
        for b in range(n)
    ]
    return torch.tensor(rows)


def naive_area(image: Tensor, height: int, width: int) -> Tensor:
    """The mean of what lies under each new pixel, parts of old pixels by their share of the area."""
    h, w = image.shape
    new = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            for i in range(h):
                for j in range(w):
                    tall = min((y + 1) * h / height, i + 1) - max(y * h / height, i)
                    wide = min((x + 1) * w / width, j + 1) - max(x * w / width, j)
                    new[y, x] += max(tall, 0) * max(wide, 0) * float(image[i, j])
    return (new / (h / height * w / width)).float()


def naive_loss(student: Tensor, teacher: Tensor) -> float:
    """Eq. 9 for each image alone, averaged over images."""
    losses = []
    for a, b in zip(student.double(), teacher.double(), strict=True):
        long_a, long_b = (sum(float(v) ** 2 for v in z.flatten()) ** 0.5 for z in (a, b))
        pairs = zip(a.flatten(), b.flatten(), strict=True)
        losses.append(sum((float(p) / long_a - float(q) / long_b) ** 2 for p, q in pairs))
    return sum(losses) / len(losses)


def test_a_map_is_the_sum_of_squares_over_channels_or_their_mean():
    x = features(0)
    torch.testing.assert_close(attention_map(x), naive_map(x))
    torch.testing.assert_close(attention_map(x, reduction="mean"), naive_map(x) / 4)


def test_resizing_by_whole_factors_averages_blocks():
    maps = torch.tensor([[[1.0, 3, 0, 8], [5, 7, 4, 4]], [[2, 2, 2, 2], [2, 2, 300, 2]]])
    torch.testing.assert_close(resized(maps, (1, 2)), torch.tensor([[[4.0, 4]], [[2, 76.5]]]))


@pytest.mark.parametrize("size", [(3, 2), (4, 5), (5, 4), (1, 1), (2, 6)])
def test_resizing_by_fractions_averages_areas(size):
    attention = maps(0)
    smaller = resized(attention, size)
    torch.testing.assert_close(smaller, torch.stack([naive_area(image, *size) for image in attention]))
    torch.testing.assert_close(smaller.mean((1, 2)), attention.mean((1, 2)))


def test_resizing_is_pooling_where_windows_do_not_overlap_and_nothing_at_the_same_size():
    attention = maps(0, (64, 64))
    torch.testing.assert_close(resized(attention, (16, 32)), adaptive_avg_pool2d(attention, (16, 32)))
    assert resized(attention, (64, 64)).equal(attention)


def test_resizing_interpolates_where_it_grows():
    attention = maps(0)
    torch.testing.assert_close(
        resized(attention, (11, 8)), interpolate(attention[:, None], (11, 8), mode="bilinear")[:, 0]
    )
    torch.testing.assert_close(resized(maps(1, (1, 1)), (2, 3)), maps(1, (1, 1)).expand(3, 2, 3))


def test_resizing_treats_each_axis_by_itself():
    attention = maps(0)
    torch.testing.assert_close(resized(attention, (11, 4)), resized(resized(attention, (11, 6)), (5 + 6, 4)))
    torch.testing.assert_close(resized(attention, (2, 9)), resized(resized(attention, (2, 6)), (2, 9)))


def test_gradient_flows_through_resizing_to_every_image():
    attention = maps(0, (4, 6)).requires_grad_()
    resized(attention, (2, 2)).sum().backward()
    torch.testing.assert_close(attention.grad, torch.full((3, 4, 6), 1 / 6))


@pytest.mark.parametrize("weight", [0.5, 0.25])
def test_co_attention_is_half_the_generators_map_and_the_weighted_sum_of_the_judges(weight):
    generator, larger, smaller = features(0), features(1, 7, (10, 12)), features(2, 2, (3, 4))
    ours = co_attention(
        attention_map(generator), [attention_map(larger), attention_map(smaller)], judge_weight=weight
    )
    judged = [
        torch.stack([naive_area(image, 5, 6) for image in naive_map(larger)]),
        interpolate(naive_map(smaller)[:, None], (5, 6), mode="bilinear")[:, 0],
    ]
    torch.testing.assert_close(ours, naive_map(generator) / 2 + weight * (judged[0] + judged[1]))


def test_the_papers_weight_is_the_default():
    torch.testing.assert_close(co_attention(maps(0), [maps(1)]), (maps(0) + maps(1)) / 2)


def test_other_fusions():
    ours, judged, other = maps(0), maps(1), maps(2)
    mix = nn.Conv2d(2, 1, 1)
    with torch.no_grad():
        mix.weight.copy_(torch.tensor([3.0, -2]).view(1, 2, 1, 1))
        mix.bias.fill_(0.5)
    torch.testing.assert_close(
        co_attention(ours, [judged, other], fusion="multiply"), ours * (judged + other)
    )
    torch.testing.assert_close(
        co_attention(ours, [judged, other], fusion="conv", mix=mix), 3 * ours - 2 * (judged + other) + 0.5
    )
    assert co_attention(ours, [judged], fusion="none").equal(ours)
    assert co_attention(ours, [], fusion="none").equal(ours)
    assert co_attention(ours.half(), [], fusion="none").equal(ours.half().float())


def test_a_mix_learns_by_the_loss():
    mix = nn.Conv2d(2, 1, 1)
    attention_loss(maps(2), co_attention(maps(0), [maps(1)], fusion="conv", mix=mix)).backward()
    assert mix.weight.grad.abs().min() > 0


def test_loss_equals_the_naive_transcription():
    assert attention_loss(maps(0), maps(1)).item() == pytest.approx(naive_loss(maps(0), maps(1)), rel=1e-5)


def test_loss_is_the_released_codes_times_the_pixels():
    student, teacher = maps(0, (64, 64)), maps(1, (64, 64))
    released = nn.functional.mse_loss(
        nn.functional.normalize(student.flatten(1)), nn.functional.normalize(teacher.flatten(1))
    )
    torch.testing.assert_close(100 / 4096 * attention_loss(student, teacher), 100 * released)


def test_loss_is_zero_for_equal_maps_and_two_for_disjoint_ones():
    assert attention_loss(maps(0), maps(0)).item() == 0
    left, right = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    left[:, :, :2], right[:, :, 2:] = 1, 5
    assert attention_loss(left, right).item() == pytest.approx(2)


def test_loss_does_not_see_the_scale_of_each_image():
    scales = torch.tensor([1e-15, 7.0, 1e25]).view(3, 1, 1)
    torch.testing.assert_close(attention_loss(scales * maps(0), maps(1)), attention_loss(maps(0), maps(1)))
    torch.testing.assert_close(attention_loss(maps(0), scales * maps(1)), attention_loss(maps(0), maps(1)))


def test_gradient_of_the_loss_is_that_of_the_plain_formula():
    leaf = features(0).double().requires_grad_()
    plain = leaf.square().sum(1).flatten(1)
    target = maps(1).double().flatten(1)
    difference = plain / plain.norm(dim=1, keepdim=True) - target / target.norm(dim=1, keepdim=True)
    (difference.square().sum() / 3).backward()
    ours = features(0).requires_grad_()
    attention_loss(attention_map(ours), maps(1)).backward()
    torch.testing.assert_close(ours.grad.double(), leaf.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("detached", [False, True])
def test_gradient_reaches_the_target_unless_it_is_detached(detached):
    """The judge sees the student's image: in the released code the student learns through the target too."""
    student, judged, teacher = (features(seed).requires_grad_() for seed in range(3))
    target = co_attention(attention_map(teacher), [attention_map(judged)])
    attention_loss(attention_map(student), target.detach() if detached else target).backward()
    assert student.grad.abs().sum() > 0
    for leaf in (judged, teacher):
        assert leaf.grad is None if detached else leaf.grad.abs().sum() > 0


@pytest.mark.parametrize("faint", [0.0, 1e-40, 1e-36])
def test_all_zero_maps_give_finite_losses_and_gradients(faint):
    student, teacher = torch.full((2, 4, 5, 6), faint**0.5), features(1, n=2)
    teacher[1] = 0
    student.requires_grad_(), teacher.requires_grad_()
    loss = attention_loss(attention_map(student), attention_map(teacher))
    loss.backward()
    assert loss.item() == pytest.approx(0.5)  # 1 for the first image, 0 for the second
    assert student.grad.isfinite().all() and teacher.grad.isfinite().all()


@pytest.mark.parametrize("norm", ["squared", "plain"])
def test_feature_distance_equals_the_naive_transcription(norm):
    fake, taught = features(0), features(1)
    squares = [
        sum((float(p) - float(q)) ** 2 for p, q in zip(a.flatten(), b.flatten(), strict=True))
        for a, b in zip(fake.double(), taught.double(), strict=True)
    ]
    expected = sum(squares) / 3 if norm == "squared" else sum(squares) ** 0.5
    assert feature_distance(fake, taught, norm=norm).item() == pytest.approx(expected, rel=1e-5)


def test_the_papers_norm_is_the_default():
    fake, taught = features(0), features(1)
    assert feature_distance(fake, taught).equal(feature_distance(fake, taught, norm="squared"))


@pytest.mark.parametrize("norm", ["squared", "plain"])
def test_feature_distance_of_equal_features_is_zero_with_no_gradient(norm):
    fake = features(0).requires_grad_()
    distance = feature_distance(fake, features(0), norm=norm)
    distance.backward()
    assert distance.item() == 0 and fake.grad.eq(0).all()


def test_feature_distance_learns_on_the_side_that_is_not_detached():
    fake, taught = features(0).requires_grad_(), features(1).requires_grad_()
    feature_distance(fake, taught.detach()).backward()
    torch.testing.assert_close(fake.grad, 2 / 3 * (features(0) - features(1)))
    assert taught.grad is None
    feature_distance(fake.detach(), taught, norm="plain").backward()
    assert taught.grad.norm().item() == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_give_the_float32_values_under_autocast(dtype):
    x, y = (torch.full((2, 64, 6, 6), 300.0, dtype=dtype) * features(s, 64, (6, 6), 2).sign() for s in (0, 1))
    x[:, :, 2:] *= 0.5
    mix = nn.Conv2d(2, 1, 1)
    mixes = {"sum": None, "multiply": None, "conv": mix}

    def losses(a: Tensor, b: Tensor) -> list[Tensor]:
        judged = [attention_map(b)[:, :3]]  # another size than (6, 6)
        targets = [co_attention(attention_map(b), judged, fusion=f, mix=m) for f, m in mixes.items()]
        alone = co_attention(attention_map(b), [], fusion="none")
        distances = [feature_distance(a, b, norm=norm) for norm in ("squared", "plain")]
        return [attention_loss(attention_map(a), t) for t in (*targets, alone)] + distances

    assert attention_map(x)[0, 0, 0].item() == 64 * 300**2  # far beyond float16
    expected = losses(x.float(), y.float())
    with torch.autocast("cpu", torch.bfloat16):
        ours = losses(x.to(dtype), y.to(dtype))
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == torch.float32 and b.item() > 0
        assert a.item() == b.item()


def test_what_cannot_be_made_into_maps_is_refused():
    with pytest.raises(ValueError, match=r"features \(B, C, H, W\), got \(4, 5, 6\)"):
        attention_map(features(0)[0])
    with pytest.raises(ValueError, match="reduction must be sum or mean, got 'max'"):
        attention_map(features(0), reduction="max")
    with pytest.raises(ValueError, match=r"\(B, H, W\), got \(3, 4, 5, 6\)"):
        resized(features(0), (2, 2))


def test_fusions_without_what_they_fuse_are_refused():
    with pytest.raises(ValueError, match="'conv' needs mix"):
        co_attention(maps(0), [maps(1)], fusion="conv")
    for fusion in ("sum", "multiply", "conv"):
        with pytest.raises(ValueError, match=f"'{fusion}' needs attention maps of the discriminator"):
            co_attention(maps(0), [], fusion=fusion, mix=nn.Conv2d(2, 1, 1))
    with pytest.raises(ValueError, match="of 3 images, the discriminator's of 1"):
        co_attention(maps(0), [maps(1)[:1]])
    with pytest.raises(ValueError, match="got 'max'"):
        co_attention(maps(0), [maps(1)], fusion="max")


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 5, 6\) for the student and \(1, 5, 6\) for the teacher"):
        attention_loss(maps(0), maps(1)[:1])
    with pytest.raises(ValueError, match=r"got \(3, 4, 5, 6\)"):
        attention_loss(features(0), features(1))
    with pytest.raises(
        ValueError, match=r"\(3, 4, 5, 6\) for the student and \(3, 1, 5, 6\) for the teacher"
    ):
        feature_distance(features(0), features(1)[:, :1])
    with pytest.raises(ValueError, match="norm must be squared or plain, got 'l1'"):
        feature_distance(features(0), features(1), norm="l1")
