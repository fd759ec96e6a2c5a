"""What pages say of results that are not the usual ones."""

import json

import numpy as np
import pytest

from ganshrink.reports.card import _made
from ganshrink.reports.comparison import _title
from ganshrink.reports.curves import POINTS, _thinned, _validated
from ganshrink.reports.files import RunFiles
from ganshrink.reports.numbers import score
from ganshrink.reports.sections import NAME, shortened
from ganshrink.reports.summary import _size
from ganshrink.reports.usage import usage


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([["cat"], ["ugc"]], "cat is best"),
        ([["cat", "ugc"]], "all are tied"),
        ([["cat", "dmad", "ugc"], ["uniform"]], "cat, dmad and ugc are tied for the first place"),
    ],
)
def test_a_comparison_is_led_by_who_is_first(places, said):
    ranking = {"budget": "macs=10%", "label_fraction": 1.0, "places": places}
    row = {"seeds": [0, 1]}
    result = {"rank_by": "psnr", "ranking": [ranking, {**ranking, "places": []}], "rows": [row]}
    assert _title(result).endswith(f": {said}.")


def test_words_of_unusual_values():
    assert score(float("nan")) == "nan" and _size([[3, 256, 256], [8]]) == "3×256×256 and 8"
    assert len(shortened("block" * 30)) == NAME and shortened("block" * 30).count("…") == 1
    assert "devicenet, a network of its own" in _made({"student": "devicenet", "teacher": "resnet9"})
    told = {"metric": "psnr", "kept": "best", "last": {"value": 20.0}, "best": {"value": 21.0, "step": 1500}}
    assert _validated(told) == ["psnr 20.00 on held-out images, at best 21.00 (step 1,500), which is kept"]


def test_a_long_curve_is_drawn_by_means_of_equal_stretches():
    assert np.array_equal(_thinned(np.arange(4 * POINTS)), 4 * np.arange(POINTS) + 1.5)


def test_a_generator_of_vectors_is_used_by_vectors(tmp_path, monkeypatch):
    parity = {"student.onnx": {"input_kind": "latent", "output_values": "[-1, 1]"}}
    run = RunFiles(tmp_path, "run", {"parity.json": parity, "cost.json": {"input": [128]}}, "", [])
    [told] = usage(run)
    assert "It takes vectors of 128 normal numbers." in json.dumps(told, ensure_ascii=False)
    assert "standard_normal((1, 128), np.float32)" in told["code"]
    compile(told["code"], "usage", "exec")
