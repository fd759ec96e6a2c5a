"""The published families of benchmarks/networks.py: each is cut exactly, or refused for what it is."""

import re
from pathlib import Path

import pytest
import torch
from families import FAMILIES
from test_statistics import woken
from test_topologies import shaken
from test_wild import apart

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed
from telling import rest_exhaustive

REFUSED = {
    "pix2pixHD instance encoder": "numpy",
    "RVM, refinement by a condition": "data-dependent",
}
# What they hold, others hold as well, or our own networks' tests, or those of statistics and widths.
TOLD = {
    "EDSR",
    "EfficientViT",
    "RepVGG",
    "StarGAN",
}


def test_the_page_has_every_family():
    rows = re.findall(r"^\| ([^|]+) \| (?:\d|refused)", Path("docs/networks.md").read_text(), re.M)
    assert rows == list(FAMILIES)


@pytest.mark.parametrize("name", REFUSED)
def test_control_flow_that_depends_on_data_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=REFUSED[name]) as caught:
        trace(FAMILIES[name].make(), *FAMILIES[name].inputs())
    assert "\n" not in str(caught.value)
    assert "families_" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", rest_exhaustive([n for n in FAMILIES if n not in REFUSED], TOLD.__contains__)
)
def test_extracted_is_the_zeroed_network(name):
    torch.manual_seed(0)
    family = FAMILIES[name]
    model = shaken(woken(family.make()))
    channels = trace(model, *family.inputs())
    plan = Plan.random(channels, 0.5)
    small, reference = extract(model, channels, plan).double(), zeroed(model, channels, plan).double()
    fresh = [t.double() if t.is_floating_point() else t for t in family.inputs(2, seed=5)]
    assert apart(small, reference, fresh) < 1e-8
