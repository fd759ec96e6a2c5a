"""UGC's filter of pseudo-labels (Eq. 8)."""

import pytest
import tiny_ugc as few
import torch
from torch import Tensor

from ganshrink.methods.ugc.config import FinetuneConfig
from ganshrink.methods.ugc.realness import RealnessFilter

GOOD, BAD = torch.full((64,), 2.0), torch.full((64,), 0.5)


def of(**changes: object) -> FinetuneConfig:
    return few.settings(**changes).finetune


def filtering(kind: str = "realness", **changes: object) -> RealnessFilter:
    """One that has seen a single batch whose mean was 1."""
    phi = RealnessFilter(of(**{"filter": kind, "filter_after": 0} | changes))
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
    phi = RealnessFilter(of(filter_after=0, ema=0.9))
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
    phi = RealnessFilter(of(filter_after=5, ema=0.5))
    torch.manual_seed(0)
    scores = torch.cat([GOOD, -GOOD])
    for step in range(12):
        counted = phi("wide", scores + step / 100)
        assert bool(counted.eq(1).all()) == (step < 5)
        assert step == 0 or phi.average["wide"] > 0
        assert phi.watch()["kept_wide"] == counted.mean().item()


def test_each_teacher_has_its_own_average_and_its_own_count():
    phi = RealnessFilter(of(filter_after=2, ema=0.5))
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
