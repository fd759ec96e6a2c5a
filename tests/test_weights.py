"""A student's file is data: it never chooses code to run."""

import sys

import pytest
from torch import nn, zeros

from ganshrink import nets
from ganshrink.weights import NetworkSpec, load_network, save_network


def test_a_file_that_names_code_is_loaded_only_into_a_network_that_the_user_gives(tmp_path, monkeypatch):
    (tmp_path / "code_named_by_a_file.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    file, name = tmp_path / "student.safetensors", "code_named_by_a_file:make"
    network = nn.Conv2d(3, 3, 1)
    save_network(file, network, NetworkSpec(net={"name": name}, example=[[1, 3, 4, 4]]))
    with pytest.raises(ValueError, match=f"student.safetensors was made from {name}, .* as `original`"):
        load_network(file)
    with pytest.raises(ValueError, match="it ran"):
        nets.build(name)  # so that file is code
    loaded, _ = load_network(file, nn.Conv2d(3, 3, 1))
    x = zeros(1, 3, 4, 4) + 0.5
    assert loaded(x).equal(network(x))
