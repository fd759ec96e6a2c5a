"""Work divided among processes: every item is done by one, and all know every result."""

import json
import os
import subprocess
import sys

import pytest

from ganshrink.system.distributed import spread

# Two processes that meet over a file: torchrun would take its own start, and each of them Python's imports.
PROGRAM = """
import json, os, sys
from pathlib import Path
from torch import distributed
from ganshrink.system.distributed import spread
folder = Path(sys.argv[1])
child = os.fork()
rank = int(child == 0)
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
done = []
def score(item):
    done.append(item)
    return 0.1 * item - 1e-12
told = {str(count): spread(score, list(range(count))) for count in (5, 1, 0)}
low = spread(lambda item: -float("inf") if item == "worst" else 1.0, ["worst", "good", "worst"])
(folder / str(rank)).write_text(json.dumps({"told": told, "done": done, "low": low}))
distributed.destroy_process_group()
if child:
    sys.exit(os.waitpid(child, 0)[1])
"""


def test_one_process_scores_everything_in_order():
    seen = []

    def score(item):
        seen.append(item)
        return len(item) / 3

    items = ("ccc", "a", "bb", "a")
    assert spread(score, items) == [1.0, 1 / 3, 2 / 3, 1 / 3]  # in double precision
    assert tuple(seen) == items
    assert spread(score, []) == []


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_score_each_item_once_and_both_get_all(tmp_path):
    loopback = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    ended = subprocess.run(command, env=loopback, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    first, second = (json.loads((tmp_path / rank).read_text()) for rank in "01")
    expected = {str(count): [0.1 * item - 1e-12 for item in range(count)] for count in (5, 1, 0)}
    assert first["told"] == second["told"] == expected
    assert first["done"] == [0, 2, 4, 0]
    assert second["done"] == [1, 3]
    assert first["low"] == second["low"] == [-float("inf"), 1.0, -float("inf")]
