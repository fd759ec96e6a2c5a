"""Stamps of a user's own code and objects: two things share one only if they do the same."""

import copy
import functools
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ganshrink import losses
from ganshrink.training.stages import Run
from ganshrink.training.stamps import sources, stamp, stamp_if_own

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)
        self.scale = scale

    def forward(self, x):
        return self.scale * self.conv(x){more}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module of this source and no other's: imported afresh each time."""

    def write(name: str, source: str):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop(name, None)
        return __import__(name)

    yield write
    for name in ("nets_one", "nets_two", "terms_mine"):
        sys.modules.pop(name, None)


def test_networks_alike_in_structure_and_weights_differ_by_their_classes_code(module):
    one = module("nets_one", NET.format(more="")).Net()
    two = module("nets_two", NET.format(more=" + 1")).Net()
    assert repr(one) == repr(two) and torch.equal(one.conv.weight, two.conv.weight)
    assert stamp(one) != stamp(two)
    assert stamp(one) == stamp(module("nets_one", NET.format(more="")).Net())
    assert stamp(one) != stamp(module("nets_one", NET.format(more=" + 1")).Net())  # the file was edited
    assert stamp(nn.Sequential(one)) != stamp(nn.Sequential(two))  # a part's class counts too


def test_networks_of_one_class_differ_by_attributes_hooks_buffers_and_weights(module):
    net = module("nets_one", NET.format(more="")).Net
    plain, hooked, buffered, trained = (net() for _ in range(4))
    hooked.register_forward_hook(_double)
    buffered.register_buffer("seen", torch.ones(1), persistent=False)
    nn.init.zeros_(trained.conv.weight)
    kinds = [plain, net(2.0), hooked, buffered, trained]
    assert len({str(stamp(one)) for one in kinds}) == len(kinds)
    assert stamp(net()) == stamp(plain)


def _double(module, given, made):
    return 2 * made


TERMS = """
from dataclasses import dataclass

@dataclass
class Brightness:
    weight: float = 1.0

    def __call__(self, context):
        return {"G_bright": self.weight * context.fake.mean()}

def dark(context):
    return {"G_dark": -context.fake.mean()}

def made(weight):
    def term(context):
        return {"G_made": weight * context.fake.mean()}
    return term
"""


def test_objects_differ_by_settings_and_functions_by_what_they_hold(module):
    terms = module("terms_mine", TERMS)
    kinds = [
        terms.Brightness(),
        terms.Brightness(2.0),
        terms.dark,
        terms.made(1),
        terms.made(2),
        functools.partial(terms.dark, 1),
    ]
    assert len({str(stamp(one)) for one in kinds}) == len(kinds)
    assert stamp(terms.Brightness(2.0)) == stamp(terms.Brightness(2.0))
    assert stamp(terms.made(2)) == stamp(terms.made(2))
    before = stamp(terms.dark)
    assert stamp(module("terms_mine", TERMS.replace("-context", "-2 * context")).dark) != before


def test_this_package_and_torch_are_known_by_name_alone():
    assert stamp_if_own(losses.kernel_alignment) is None and sources(nn.Conv2d(1, 1, 1)) == {}
    assert list(sources(_double)) == [f"{__name__}:_double"]


@dataclass
class Holds:
    what: object


@pytest.mark.parametrize("thing", [lambda x: x, Holds(lambda x: x)], ids=["itself", "within"])
def test_what_cannot_be_told_apart_has_a_stamp_of_its_own_each_time(thing, caplog):
    assert stamp(thing) != stamp(thing)
    assert "a lambda of" in caplog.text and "is not taken up by a later run" in caplog.text


def test_code_without_a_file_has_none_either(monkeypatch, caplog):
    typed = types.ModuleType("typed_by_hand")  # as __main__ is in a shell
    exec("class Loss:\n    def __call__(self, context): return {}", vars(typed))
    monkeypatch.setitem(sys.modules, "typed_by_hand", typed)
    assert stamp(typed.Loss()) != stamp(typed.Loss())
    assert "typed_by_hand:Loss has no source to know it by" in caplog.text


def test_a_run_for_own_code_makes_its_stages_again_when_that_changes(tmp_path: Path):
    run, made = Run(tmp_path), []

    def stage(of: Run, name: str) -> None:
        of.stage(name, lambda stage: made.append(name) or {"value": {}}, made_from={})

    for source in ("a", "a", "b"):
        again = Run(tmp_path)
        own = again.made_by(source)
        stage(again, "teacher")
        stage(own, "search")
        assert [one["name"] for one in again.stages()] == ["teacher", "search"]
    assert made == ["teacher", "search", "search"]
    del run


def test_arrays_methods_and_what_holds_itself_are_told_apart(module):
    rows = np.arange(4)
    assert stamp(rows) == stamp(rows.copy()) == stamp(torch.arange(4)) != stamp(rows + 1)
    net = module("nets_one", NET.format(more="")).Net
    assert stamp(net(2.0).forward) == stamp(net(2.0).forward) != stamp(net(3.0).forward)
    ring: dict = {"scale": 1.0}
    ring["self"] = ring
    other: dict = {"scale": 2.0}
    other["self"] = other
    assert stamp(ring) == stamp(copy.deepcopy(ring)) != stamp(other)


def test_what_holds_nothing_to_know_it_by_is_told(caplog):
    assert stamp(object()) != stamp(object())
    assert "a object has no stamp: what is made with it is not taken up by a later run" in caplog.text
