import pytest
import torch
from tiny_training import config

from ganshrink.system.distributed import rank_and_world
from ganshrink.training import check_launch
from ganshrink.training.devices import _channels_last


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"WORLD_SIZE": "2"}, (0, 1)),  # left by something that is no launcher of ours
        ({"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}, (5, 8)),  # torchrun on several machines
    ],
)
def test_torchrun_says_which_process_this_is(monkeypatch, environment, expected):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank_and_world() == expected


def test_more_processes_than_were_started_are_refused():
    with pytest.raises(ValueError, match=r"devices = 2, but 1 process .* torchrun --nproc-per-node 2"):
        check_launch(config(devices=2))


def test_channels_are_last_of_images_alone_also_among_several_inputs():
    image, vector = torch.rand(2, 3, 4, 5), torch.rand(2, 3)
    moved, same = _channels_last((image, vector))
    assert torch.equal(moved, image) and moved.stride() == (60, 1, 15, 3) and same is vector
