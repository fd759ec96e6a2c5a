import pytest
from tiny_training import config

from ganshrink.engine import rank_and_world


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 2)),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),  # Fabric's own launcher
        ({"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}, (5, 8)),  # torchrun on several machines
    ],
)
def test_the_launcher_says_which_process_this_is(monkeypatch, environment, expected):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank_and_world(config(devices=2)) == expected
