"""Errors of other programs in one line."""

import pytest

from ganshrink.system.spelling import LONGEST, one_line


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", "ValueError"),
        ("\n  - a cause\nmore", "a cause"),
        ("FAIL :\nthe file is damaged\nat 3", "FAIL : the file is damaged"),
        ("Exception from src/core/x.cpp:1:\nno such operator:", "no such operator"),
        ("no trace. For more information, set TORCH_LOGS=+all\nfrom user code", "no trace from user code"),
        ("x" * 2 * LONGEST, "x" * LONGEST + "..."),
    ],
)
def test_the_first_line_that_says_something_is_taken(said, line):
    assert one_line(ValueError(said)) == line
