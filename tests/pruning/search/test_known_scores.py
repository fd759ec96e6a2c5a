"""Scores of subnets in a file: none is computed twice, and what is no score is not believed."""

import json

import numpy as np
import pytest

from ganshrink.pruning.search.known_scores import KnownScores

MEMBERS = [np.array(widths) for widths in ([8, 8], [8, 4], [2, 4])]


class Counting:
    def __init__(self) -> None:
        self.members: list[list[int]] = []

    def __call__(self, widths: np.ndarray) -> float:
        self.members.append(widths.tolist())
        return float(widths.sum()) / 3


def test_each_is_computed_once_and_kept(tmp_path):
    score, file, told = Counting(), tmp_path / "scores.json", []
    scores = KnownScores(score, file)
    assert scores.of(MEMBERS[:2], told.append) == [16 / 3, 4] and told == [1, 2]
    assert scores.of(MEMBERS) == [16 / 3, 4, 2] and scores.get(MEMBERS[2]) == 2
    assert score.members == [[8, 8], [8, 4], [2, 4]]
    assert json.loads(file.read_text()) == scores.known
    again = KnownScores(score, file)
    assert again.of(MEMBERS) == [16 / 3, 4, 2] and len(score.members) == 3
    assert again.get(np.array([1, 1])) is None


@pytest.mark.parametrize("content", ["", '{"8,8', "[1, 2]", "5", '{"8,8": "good"}', '{"8": [1]}', "\x00"])
def test_a_damaged_file_is_not_believed_and_that_is_said(tmp_path, caplog, content):
    file = tmp_path / "scores.json"
    file.write_text(content)
    scores = KnownScores(Counting(), file)
    assert scores.known == {} and f"{file} is damaged: networks are scored again" in caplog.text
    assert scores.of(MEMBERS[:1]) == [16 / 3] and json.loads(file.read_text()) == {"8,8": 16 / 3}


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_score_that_is_no_number_is_not_believed(tmp_path, value):
    file = tmp_path / "scores.json"
    file.write_text('{"8,8": ' + value + ', "8,4": 4.0}')
    assert KnownScores(Counting(), file).known == {"8,4": 4.0}


def test_an_infinite_score_is_used_but_not_kept(tmp_path):
    scores = KnownScores(lambda widths: float("-inf"), tmp_path / "scores.json")
    assert scores.of(MEMBERS[:1]) == [float("-inf")]
    assert json.loads((tmp_path / "scores.json").read_text()) == {}
