"""A student as a folder for others: the same network comes back, the card says what is known, hubs need their extra."""

import json
import sys

import pytest
import torch
from torch import nn

import ganshrink
from ganshrink import nets
from ganshrink.workflow.saved_networks import NetworkSpec, save_network

NET = {"name": "resnet9", "ngf": 2, "blocks": 1}


@pytest.fixture
def run(tmp_path):
    network = nets.build(**NET).eval()
    save_network(
        tmp_path / "run/student.safetensors", network, NetworkSpec(net=NET, example=[[1, 3, 16, 16]])
    )
    costs = {
        of: {"params": 10 * n, "macs": {"exact": 100 * n, "paper": 1}}
        for of, n in (("teacher", 4), ("student", 1))
    }
    scores = {
        of: {"psnr": {"value": v, "better": "higher"}} for of, v in (("teacher", 20.5), ("student", 19.5))
    }
    for name, content in (("cost.json", costs), ("metrics.json", scores)):
        (tmp_path / "run" / name).write_text(json.dumps(content))
    return tmp_path / "run", network


def test_what_is_saved_comes_back_with_a_card(run, tmp_path):
    path, network = run
    folder = ganshrink.save_pretrained(
        path, tmp_path / "a|b", license="Apache-2.0", data_license="CC-BY 4.0 | own"
    )
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(ganshrink.from_pretrained(folder)(picture), network(picture))
    card = (folder / "README.md").read_text()
    head = card.split("---\n")[1]
    assert "license: apache-2.0\n" in head and "pipeline_tag: image-to-image\n" in head
    assert "| teacher | student | change |" in card and "| 20.50 dB | 19.50 dB |" in card
    assert "| teacher | not stated |" in card and "| data | CC-BY 4.0 \\| own |" in card
    config = json.loads((folder / "config.json").read_text())
    assert config["network"]["net"] == NET and config["licenses"]["teacher"] is None
    assert {file.name for file in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "cost.json", "metrics.json",
    }  # fmt: skip


def test_what_cannot_be_saved_or_fetched_is_one_line(run, tmp_path, monkeypatch):
    path, _ = run
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r'pushing needs huggingface_hub .*: pip install "ganshrink\[hub\]"'):
        ganshrink.save_pretrained(path, tmp_path / "out", push_to="me/mine")
    assert not (tmp_path / "out").exists()
    with pytest.raises(
        ValueError, match=r"there is no folder me/mine, and fetching it needs huggingface_hub"
    ):
        ganshrink.from_pretrained("me/mine")
    with pytest.raises(FileNotFoundError, match="there is no folder nowhere"):
        ganshrink.from_pretrained("nowhere")
    with pytest.raises(ValueError, match="is the run itself"):
        ganshrink.save_pretrained(path, path)
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors"):
        ganshrink.from_pretrained(tmp_path)


@pytest.mark.exhaustive
def test_of_a_network_of_ones_own_the_network_is_asked_for_and_the_hub_gets_the_folder(
    run, tmp_path, monkeypatch
):
    path, _ = run
    own = nn.Sequential(nn.Conv2d(3, 3, 1))
    save_network(path / "student.safetensors", own, NetworkSpec(net=None, example=[[1, 3, 8, 8]]))
    sent = {}

    class Hub:
        create_repo = staticmethod(lambda name, exist_ok: sent.update(repository=name))

        @staticmethod
        def upload_folder(repo_id, folder_path, commit_message):
            raise OSError("not logged in")

        @staticmethod
        def snapshot_download(name, allow_patterns):
            return str(tmp_path / "out")

    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub)
    with pytest.raises(ValueError, match="out is written, but me/mine did not take it: not logged in"):
        ganshrink.save_pretrained(path, tmp_path / "out", push_to="me/mine")
    assert sent == {"repository": "me/mine"}
    with pytest.raises(ValueError, match="holds a cut of a network of your own"):
        ganshrink.from_pretrained("me/mine")
    again = ganshrink.from_pretrained("me/mine", nn.Sequential(nn.Conv2d(3, 3, 1)))
    assert torch.equal(again[0].weight, own[0].weight)
