"""Weights files of every origin: read without running code, renamed, and refused in one line."""

import argparse
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.nets import load_weights
from telling import rest_exhaustive


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
@pytest.mark.parametrize(
    "prefix",
    rest_exhaustive(["", "module.", "_orig_mod.", "module._orig_mod."], ["module._orig_mod."].__contains__),
)
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
            "holds no named tensors of a network, only: epoch",
        ),
        ("net.pth", pickled([torch.zeros(1)]), "holds no named tensors"),
        ("net.h5", b"x", "must be a weights file ending in one of .safetensors, .pth, .pt, .ckpt"),
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
        (lambda s: s.pop("up.7.bias"), r"the file has no 'up.7.bias'; .*check \[net\]"),
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


def of(network: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in network.state_dict().items()}


def judge() -> nn.Module:
    return nets.build("patchgan", ndf=2)


def raw(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


ADAM = {"state": {0: {"exp_avg": torch.zeros(2, 2)}}, "param_groups": [{"lr": 1e-3}]}
LAYOUTS = {
    "tutorial": lambda s: {"epoch": 3, "model_state_dict": s, "optimizer_state_dict": ADAM, "loss": torch.tensor(0.3)},
    "settings and scores beside it": lambda s: {
        "args": argparse.Namespace(lr=1, out=Path("runs")), "best": np.float64(0.3), "count": np.int64(7), "model": s,
    },
    "Lightning": lambda s: {"state_dict": {**{f"generator.{k}": t for k, t in s.items()}, **of(judge(), "discriminator.")}},
    "Lightning, deeper": lambda s: {"state_dict": {f"model.netG.{k}": t for k, t in s.items()} | of(judge(), "model.netD.")},
    "Lightning with an average": lambda s: {
        "state_dict": {f"ema_G.{k}": t for k, t in s.items()} | {f"G.{k}": t for k, t in raw(s).items()}
    },
    "StyleGAN2": lambda s: {"g": raw(s), "d": judge().state_dict(), "g_ema": s, "g_optim": ADAM, "mean": torch.zeros(8)},
    "one of two networks": lambda s: {"netG": s, "netD": judge().state_dict()},
    "a list": lambda s: [s, judge().state_dict()],
    "THOP": lambda s: {**s, "total_ops": torch.zeros(1), "down.1.total_params": torch.zeros(1)},
    "torch's average": lambda s: {"n_averaged": torch.tensor(9), **{f"module.{k}": t for k, t in s.items()}},
    "wrapped in the middle": lambda s: {"generator": {f"_orig_mod.module.{k}": t for k, t in s.items()}},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    state = tiny().state_dict()
    torch.save(LAYOUTS[layout](state), tmp_path / "net.ckpt")
    assert same(load_weights(tmp_path / "net.ckpt", tiny()), state)


def test_of_several_networks_that_fit_one_is_named(tmp_path):
    there, back, file = tiny().state_dict(), raw(tiny().state_dict()), tmp_path / "cycle.pth"
    torch.save({"nets": {"G_A": there, "G_B": back, "D_A": judge().state_dict()}}, file)
    with pytest.raises(
        ValueError, match=r"several networks that fit: nets.G_A, nets.G_B; choose one: cycle.pth:nets.G_A"
    ):
        load_weights(file, tiny())
    for key, wanted in (("nets.G_A", there), ("G_B", back)):
        assert same(load_weights(f"{file}:{key}", tiny()), wanted)
    with pytest.raises(ValueError, match=r"no network 'G_C'; it holds nets.G_A \([\d,]+ numbers\), nets.G_B"):
        load_weights(f"{file}:G_C", tiny())


def test_where_none_fits_the_layout_is_told_and_net_is_not_blamed(tmp_path):
    other = nets.build("resnet9", ngf=3, blocks=1, norm="batch").state_dict()
    torch.save({"G_A": other, "D_A": judge().state_dict()}, tmp_path / "net.pth")
    with pytest.raises(
        ValueError, match=r"holds G_A .*, D_A .*none fits the network: G_A: 'down.1.weight' is"
    ) as e:
        load_weights(tmp_path / "net.pth", tiny())
    assert "[net]" not in str(e.value) and "\n" not in str(e.value)


def test_names_of_another_s_own_are_matched_by_order_and_both_are_shown(tmp_path, caplog):
    caplog.set_level("INFO", "ganshrink")
    state = tiny().state_dict()
    own = {
        name.replace("down.", "encoder.").replace("body", "conv"): tensor for name, tensor in state.items()
    }
    torch.save(own, tmp_path / "net.pth")
    assert same(load_weights(tmp_path / "net.pth", tiny()), state)
    assert "by order and shape, encoder.1 is down.1; encoder.2 is down.2" in caplog.text
    swapped = dict(reversed(own.items()))
    torch.save(swapped, tmp_path / "swapped.pth")
    with pytest.raises(ValueError, match="names differ, and in order 'up.7' has|the network has no"):
        load_weights(tmp_path / "swapped.pth", tiny())


def test_sequences_keep_their_order_in_files_that_sort_names(tmp_path):
    deep = nn.Sequential(*(nn.Conv2d(2, 2, 1) for _ in range(12)))
    torch.manual_seed(0)
    save_file(
        {f"net.{k}": torch.randn_like(t) for k, t in deep.state_dict().items()}, tmp_path / "net.safetensors"
    )
    given = load_file(tmp_path / "net.safetensors")
    found = load_weights(tmp_path / "net.safetensors", nn.Sequential(deep))
    assert all(torch.equal(found[f"0.{i}.weight"], given[f"net.{i}.weight"]) for i in range(12))


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_biases_before_norms_may_be_missing_or_too_many(norm, tmp_path):
    """A file with biases in a network without, and the other way round, gives the same pictures."""
    torch.manual_seed(0)
    kind = nn.BatchNorm2d if norm == "batch" else nn.InstanceNorm2d
    pair = [
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), kind(4, affine=True)).eval() for bias in (True, False)
    ]
    for network in pair:
        if norm == "batch":
            network[1].running_mean.normal_(), network[1].running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 8, 8)
    for theirs, ours in (pair, pair[::-1]):
        torch.save(theirs.state_dict(), tmp_path / "net.pth")
        wanted = theirs(x)
        ours.load_state_dict(load_weights(tmp_path / "net.pth", ours))
        torch.testing.assert_close(ours(x), wanted)


NORMED = {
    "spectral": nn.utils.spectral_norm,
    "weight": nn.utils.weight_norm,
    "new spectral": nn.utils.parametrizations.spectral_norm,
    "new weight": nn.utils.parametrizations.weight_norm,
}


@pytest.mark.parametrize("norm", NORMED)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_spectral_and_weight_norms_are_computed(norm, tmp_path):
    """Transposed convolutions too, whose outputs are the second axis; here as many as inputs, so that no shape tells."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ConvTranspose2d(6, 6, 3, 2)]
    ours = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ConvTranspose2d(6, 6, 3, 2))
    theirs, x = nn.Sequential(*map(NORMED[norm], layers)), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        for _ in range(3):
            theirs(x)
        torch.save(theirs.eval().state_dict(), tmp_path / "net.pth")
        ours.load_state_dict(load_weights(tmp_path / "net.pth", ours))
        torch.testing.assert_close(ours(x), theirs(x))


def test_a_network_that_is_known_is_named_where_another_is_wanted(tmp_path):
    torch.save(nets.build("unet128", ngf=2).state_dict(), tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"does not fit: .*; it holds unet128 with ngf = 2; check \[net\]"):
        load_weights(tmp_path / "net.pth", tiny())


def test_a_u_net_is_not_matched_by_shapes_alone(tmp_path):
    """Codes differ in which half of a decoder's inputs is the skip, and all shapes are the same."""
    network = nets.build("unet128", ngf=2)
    state = {f"net.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({name.replace("down", "enc"): tensor for name, tensor in state.items()}, tmp_path / "net.pth")
    with pytest.raises(
        ValueError, match="names are neither ours nor pix2pix's, .* order a U-Net joins skips"
    ):
        load_weights(tmp_path / "net.pth", network)
    torch.save(state, tmp_path / "net.pth")  # ours, with a prefix
    assert same(load_weights(tmp_path / "net.pth", network), network.state_dict())
