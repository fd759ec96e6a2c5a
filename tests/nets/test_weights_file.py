"""Weights files of every origin: read without running code, renamed, and refused in one line."""

import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.nets import load_weights


def tiny(norm: str = "batch") -> nn.Module:
    torch.manual_seed(0)
    return nets.build("resnet9", ngf=2, blocks=1, norm=norm)


def same(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return list(given) == list(wanted) and all(
        given[k].dtype == wanted[k].dtype and torch.equal(given[k], wanted[k]) for k in wanted
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".ckpt"])
def test_plain_files_of_every_kind(suffix, tmp_path):
    state, file = tiny().state_dict(), tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, file)
    assert same(load_weights(file, tiny()), state)


@pytest.mark.parametrize("nest", ["state_dict", "params", "params_ema", "generator", "netG", "G"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_nested_and_wrapped_files(nest, prefix, tmp_path):
    state, file = tiny().state_dict(), tmp_path / "net.pth"
    wrapped = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"epoch": 7, nest: wrapped, "optimizer": {"lr": 0.1}}, file)
    assert same(load_weights(file, tiny()), state)


def test_averaged_weights_go_before_raw_ones_at_any_depth(tmp_path):
    state, file = tiny().state_dict(), tmp_path / "net.pth"
    raw = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"state_dict": {"params": raw, "params_ema": state}}, file)
    assert same(load_weights(file, tiny()), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single_and_counters_may_be_missing(dtype, tmp_path):
    state, file = tiny().state_dict(), tmp_path / "net.safetensors"
    save_file({k: t.to(dtype) for k, t in state.items() if t.is_floating_point()}, file)
    rounded = {k: t.to(dtype).float() if t.is_floating_point() else t for k, t in state.items()}
    assert same(load_weights(file, tiny()), rounded)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_its_code_does_not_run(zipped, tmp_path):
    mark, file = tmp_path / "it ran", tmp_path / "net.pth"

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    torch.save({**tiny().state_dict(), "x": Payload()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"net.pth is refused: it holds \w+.mkdir, .* any code; .*safetensors"
    ) as e:
        load_weights(file, tiny(), setting="teacher.weights")
    assert str(e.value).startswith("teacher.weights: ") and "\n" not in str(e.value)
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()  # so the payload is one


def pickled(value: object, **how: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **how)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.pth", b"", "is damaged or no weights file"),
        ("net.safetensors", b"", "is not a readable safetensors file"),
        ("net.safetensors", b"\x10" + bytes(40), "is not a readable safetensors file"),
        ("net.pth", b"hello there, this is text", "is damaged or no weights file|is refused"),
        ("net.pth", pickled({"a": torch.zeros(2000)})[:300], "is damaged or no weights file"),
        ("net.pth", pickled({"a": torch.zeros(2000)})[:-300], "is damaged or no weights file"),
        ("net.pth", pickled(nn.Conv2d(3, 3, 1)), "is refused: it holds torch.nn.modules.conv.Conv2d"),
        ("net.pth", pickle.dumps(Path), "is refused: it holds something that torch cannot read safely"),
        (
            "net.pth",
            pickled({"epoch": 3}),
            "holds no named tensors, alone or under one of params_ema, params",
        ),
        ("net.pth", pickled([torch.zeros(1)]), "holds no named tensors"),
        ("net.onnx", b"x", "must be a weights file ending in one of .safetensors, .pth, .pt, .ckpt"),
    ],
)
def test_what_is_no_weights_file_is_one_clear_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_weights(tmp_path / name, tiny())
    assert str(error.value).startswith(f"weights: {tmp_path / name} ") and "\n" not in str(error.value)


def test_a_folder_and_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder; name the weights file in it"):
        load_weights(tmp_path, tiny())
    with pytest.raises(FileNotFoundError, match="there is no weights file .*none.pth"):
        load_weights(tmp_path / "none.pth", tiny())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("up.7.bias"), r"the file has no 'up.7.bias'; check \[net\]"),
        (lambda s: s.update(extra=torch.zeros(1)), "the network has no 'extra'"),
        (
            lambda s: s.update({"up.7.bias": torch.zeros(4)}),
            r"'up.7.bias' is \(4,\) in the file, \(3,\) in the network",
        ),
        (
            lambda s: s.update({"up.7.bias": torch.zeros(3, dtype=torch.int8)}),
            "'up.7.bias' is torch.int8 in the file, torch.float32 in the network",
        ),
        (lambda s: s.pop("down.2.running_mean"), "the file has no 'down.2.running_mean'"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(change, message, tmp_path):
    state = dict(tiny().state_dict())
    change(state)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=f"net.pth does not fit: {message}"):
        load_weights(tmp_path / "net.pth", tiny())


def test_statistics_of_instance_norms_are_ignored_but_not_those_of_batch_norms(tmp_path):
    state = tiny("instance").state_dict()
    old = {
        "running_mean": torch.zeros(2),
        "running_var": torch.ones(2),
        "num_batches_tracked": torch.tensor(3),
    }
    torch.save({**state, **{f"down.2.{name}": tensor for name, tensor in old.items()}}, tmp_path / "old.pth")
    assert same(load_weights(tmp_path / "old.pth", tiny("instance")), state)
    torch.save(tiny().state_dict(), tmp_path / "batch.pth")
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(tmp_path / "batch.pth", tiny("instance"))
