"""Which images UGC trains on and which it scores subnets on, and the filter of Eq. 8."""

from dataclasses import replace

import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from torch import Tensor

from ganshrink.data import DataConfig, Images, TensorPairs, open_dataset
from ganshrink.methods.base import Job
from ganshrink.methods.ugc.distillation import RealnessFilter
from ganshrink.methods.ugc.images import divided

# Who trains, who scores


@pytest.fixture(scope="module")
def base() -> Job:
    return few.job()


def given(base: Job, data: int, unlabelled: int | None) -> Job:
    """The job with so many pairs, and so many inputs without targets."""
    more = None if unlabelled is None else few.inputs(unlabelled)
    return replace(base, data=pairs(data), unlabelled=more)


def pixels(images: Images) -> list[bytes]:
    """Every input of a set, as something to compare."""
    return [images.sample(index, None)["input"].numpy().tobytes() for index in range(len(images))]


def pairs(count: int) -> TensorPairs:
    return TensorPairs(list(zip(tiny.pictures(count, 0), tiny.pictures(count, 9), strict=True)))


def test_labelled_unlabelled_and_held_out_images_are_apart_and_all_are_used(base):
    work = given(base, 5, 12)
    images = divided(work, few.settings())
    labelled, unlabelled, held = (
        set(pixels(part)) for part in (images.labelled, images.unlabelled, images.held)
    )
    assert labelled == set(pixels(work.data))
    assert (len(labelled), len(unlabelled), len(held)) == (5, 10, 2)
    assert unlabelled | held == set(pixels(work.unlabelled)) and not unlabelled & held
    assert not labelled & (unlabelled | held)
    assert all("target" not in part.sample(0, None) for part in (images.unlabelled, images.held))


def test_where_all_have_labels_some_are_held_out_of_both(base):
    work = given(base, 10, None)
    images = divided(work, few.settings())
    assert pixels(images.labelled) == pixels(images.unlabelled)
    assert set(pixels(images.labelled)) | set(pixels(images.held)) == set(pixels(work.data))
    assert (len(images.labelled), len(images.held)) == (8, 2)
    assert not set(pixels(images.labelled)) & set(pixels(images.held))


@pytest.mark.parametrize("wanted", [1, 3, 200])
@pytest.mark.parametrize("available", [2, 4, 5, 9, 10, 33])
def test_so_many_as_asked_for_are_held_out_but_at_most_a_fifth(base, available, wanted):
    images = divided(given(base, available, None), few.settings(search_images=wanted))
    assert len(images.held) == max(1, min(wanted, available // 5))
    assert len(images.unlabelled) == len(images.labelled) == available - len(images.held)


@pytest.mark.parametrize(
    ("pairs", "inputs", "wanted", "of_inputs", "of_pairs"),
    [
        (10, 30, 200, 6, 0),  # a fifth of the unlabelled ones, when that is most of a fifth of all
        (10, 30, 2, 2, 0),
        (4, 9, 200, 1, 0),
        (30, 10, 200, 2, 6),  # else pairs beside them, a fifth of these
        (30, 10, 3, 2, 0),
        (39, 1, 200, 0, 7),
        (9, 3, 200, 0, 1),
    ],
)
def test_pairs_are_held_out_where_unlabelled_images_are_too_few(
    base, pairs, inputs, wanted, of_inputs, of_pairs
):
    work = given(base, pairs, inputs)
    images = divided(work, few.settings(search_images=wanted))
    held = pixels(images.held)
    assert len(set(held) & set(pixels(work.unlabelled))) == of_inputs
    assert len(set(held) & set(pixels(work.data))) == of_pairs and len(held) == of_inputs + of_pairs
    assert set(pixels(images.labelled)) == set(pixels(work.data)) - set(held)
    assert set(pixels(images.unlabelled)) == set(pixels(work.unlabelled)) - set(held)
    assert "target" not in images.held.sample(0, None)


def test_they_are_spread_over_the_set(base):
    work = given(base, 4, 20)
    held = divided(work, few.settings()).held
    places = [pixels(work.unlabelled).index(each) for each in pixels(held)]
    assert len(places) == 4 and max(places) > 10
    assert len({place * 4 // 20 for place in places}) == 4  # one of each quarter


def test_the_same_ones_are_held_out_every_time_and_others_make_another_stamp(base):
    prints = [divided(given(base, 4, 20), few.settings(search_images=n)) for n in (3, 3, 4)]
    same, again, other = ([p.held.fingerprint(), p.unlabelled.fingerprint()] for p in prints)
    assert same == again and not set(same) & set(other)


def test_the_only_pair_is_not_held_out(base):
    images = divided(given(base, 1, 3), few.settings())
    assert (len(images.labelled), len(images.unlabelled), len(images.held)) == (1, 2, 1)


@pytest.mark.parametrize("unlabelled", [None, 1])
def test_a_single_pair_is_too_few(base, unlabelled):
    work = given(base, 1, unlabelled)
    with pytest.raises(ValueError, match="there are only [12]: give at least 2 pairs, or 2 inputs") as error:
        divided(work, few.settings())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("unlabelled", [None, 1, 6])
def test_without_a_search_none_are_held_out(base, unlabelled):
    work = given(base, 1, unlabelled)
    images = divided(work, few.settings(search=False))
    assert images.held is None and images.labelled is work.data
    assert pixels(images.unlabelled) == pixels(work.data if unlabelled is None else work.unlabelled)


def test_unpaired_images_are_scored_on_inputs_of_the_training_folder(base, domains, caplog):
    data = open_dataset(DataConfig(**domains), "train")  # 3 of A, 4 of B
    work = replace(base, task=tiny.cyclegan(), unlabelled=None, data=data)
    images = divided(work, few.settings())
    assert len(images.labelled) == len(images.unlabelled) == len(data) and len(images.held) == 1
    assert pixels(images.held)[0] in [data.sample(i, None)["input"].numpy().tobytes() for i in range(3)]
    assert "scored on inputs that they train on" in caplog.text


# Eq. 8

GOOD, BAD = torch.full((64,), 2.0), torch.full((64,), 0.5)


def filtering(kind: str = "realness", **changes: object) -> RealnessFilter:
    """One that has seen a single batch whose mean was 1."""
    phi = RealnessFilter(few.settings(**{"filter": kind, "filter_after": 0} | changes))
    assert phi("wide", torch.tensor([0.0, 2.0])).tolist() == [1, 1]
    torch.manual_seed(0)
    return phi


@pytest.mark.parametrize(("kind", "always"), [("realness", GOOD), ("printed", BAD)])
def test_images_on_one_side_of_the_average_always_count_the_others_every_second_time(kind, always):
    """As printed it is the other side."""
    other = BAD if always is GOOD else GOOD
    phi = filtering(kind, ema=0.999)("wide", torch.stack([always, other], 1).flatten())
    assert phi.dtype == torch.float32
    assert phi[::2].eq(1).all()
    assert set(phi[1::2].tolist()) == {0, 1} and 16 < phi[1::2].sum() < 48


@pytest.mark.parametrize("kind", ["realness", "printed"])
def test_an_image_at_the_average_counts(kind):
    assert filtering(kind)("wide", torch.ones(64)).eq(1).all()


def test_images_are_decided_one_by_one_and_anew_at_every_step():
    phi = filtering(ema=0.999)
    decisions = torch.stack([phi("wide", BAD) for _ in range(20)])
    assert decisions.std(0).ne(0).all() and decisions.std(1).ne(0).all()


def test_the_average_begins_with_the_first_mean_and_moves_after_each_decision():
    """With no memory at all, it is each time the mean before."""
    phi = RealnessFilter(few.settings(filter_after=0, ema=0.9))
    expected = None
    for scores in (torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]), torch.tensor([5.0, -1.0])):
        phi("wide", scores)
        mean = scores.mean().item()
        expected = mean if expected is None else 0.9 * expected + 0.1 * mean
        assert phi.watch()["realness_wide"] == pytest.approx(expected)
    forgetful = filtering(ema=0)
    assert 0 in forgetful("wide", BAD)  # against 1, not against its own mean
    assert forgetful("wide", BAD).eq(1).all()  # against that
    assert 0 in forgetful("wide", BAD - 1e-3)


def test_it_begins_after_so_many_steps_but_the_average_moves_from_the_first():
    phi = RealnessFilter(few.settings(filter_after=5, ema=0.5))
    torch.manual_seed(0)
    scores = torch.cat([GOOD, -GOOD])
    for step in range(12):
        counted = phi("wide", scores + step / 100)
        assert bool(counted.eq(1).all()) == (step < 5)
        assert step == 0 or phi.average["wide"] > 0
        assert phi.watch()["kept_wide"] == counted.mean().item()


def test_each_teacher_has_its_own_average_and_its_own_count():
    phi = RealnessFilter(few.settings(filter_after=2, ema=0.5))
    torch.manual_seed(0)
    for scores in (GOOD, GOOD):
        phi("wide", scores)
    assert "realness_deep" not in phi.watch()
    assert phi("deep", BAD).eq(1).all()  # its first
    assert phi.average == {"wide": 2.0, "deep": 0.5}
    assert 0 in phi("wide", BAD) and phi("deep", BAD - 1).eq(1).all()
    assert phi.average["wide"] == 1.25


def test_its_state_survives():
    before = filtering(filter_after=3, ema=0.9)
    before("wide", GOOD), before("deep", BAD)
    after = RealnessFilter(before.config)
    state = before.state_dict()
    after.load_state_dict(state)
    seen: list[list[Tensor]] = []
    for phi in (before, after):
        torch.manual_seed(1)
        seen.append([phi(name, BAD) for _ in range(3) for name in ("wide", "deep")])
    assert all(torch.equal(*each) for each in zip(*seen, strict=True))
    assert before.average == after.average and before.updates == after.updates == {"wide": 5, "deep": 4}
    assert 0 in seen[0][2] and state["updates"] == {"wide": 2, "deep": 1}  # a state is of its moment
