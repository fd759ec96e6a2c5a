"""Goldens beside an exported file: replayed they agree, and whatever was exchanged or computes otherwise is found."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info
from onnx.numpy_helper import from_array
from torch import nn

from ganshrink.data import InputSpec, TensorInputs
from ganshrink.deploy.goldens import FILE, add_made, read_goldens, verify, write_goldens
from ganshrink.exporters import EXPORTERS, export_onnx
from ganshrink.exporters.note import FileNote
from ganshrink.exporters.runtime import EXTRAS, has_openvino
from ganshrink.training.stages import Run
from ganshrink.workflow import outputs


class Wide(nn.Module):
    """Outputs that leave [-1, 1], as some generators' do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return 2 * self.layer(x)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A file as an exporter would write it, and its goldens."""
    torch.manual_seed(0)
    folder, network = tmp_path_factory.mktemp("exported"), Wide()
    given, made = (
        make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 12, 12]) for name in ("input", "image")
    )
    weights = {"weight": 2 * network.layer.weight, "bias": 2 * network.layer.bias}
    node = make_node("Conv", ["input", *weights], ["image"], pads=[1, 1, 1, 1])
    constants = [from_array(tensor.detach().numpy(), name) for name, tensor in weights.items()]
    model = make_model(make_graph([node], "student", [given], [made], constants), ir_version=10)
    model.opset_import[0].version = 18
    onnx.helper.set_model_props(model, FileNote(input=InputSpec(size=(12, 12))).about())
    onnx.save(model, folder / "student.onnx")
    pictures = list(torch.rand(2, 3, 12, 12) * 2 - 1)
    write_goldens(folder / FILE, network.eval(), (torch.zeros(1, 3, 12, 12),), pictures, about={})
    return folder


def test_goldens_are_replayed_and_another_student_is_found(exported, tmp_path):
    found = verify(exported)
    [row] = found["files"]
    assert found["passed"] and (row["file"], row["against"]) == ("student.onnx", "torch")
    assert row["most_levels"] < 0.01 and row["psnr_db"] > 80  # a 512th of a level is rounded away
    goldens = read_goldens(exported)
    assert len(goldens.inputs) == 3 and goldens.made["output"].shape == (3, 3, 12, 12)
    shutil.copy(exported / "student.onnx", tmp_path)
    write_goldens(tmp_path / FILE, Wide(), (torch.zeros(1, 3, 12, 12),), [], about={})  # of other weights
    assert not verify(tmp_path)["passed"] and verify(tmp_path, levels=255)["passed"]
    shutil.copy(exported / FILE, tmp_path)
    np.save(tmp_path / "made.npy", goldens.made["output"].numpy().round().astype(np.uint8))
    [row] = verify(tmp_path, outputs=tmp_path / "made.npy")["files"]
    assert row["passed"] and 0.3 < row["most_levels"] <= 0.5 and row["runtime"] == "elsewhere"
    np.save(tmp_path / "made.npy", goldens.made["output"].numpy().swapaxes(2, 3) / 127.5 - 1)
    assert not verify(tmp_path, outputs=tmp_path / "made.npy")["passed"]


def test_what_cannot_be_verified_is_one_line(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match="ganshrink export RUN writes it"):
        verify(tmp_path)
    shutil.copy(exported / FILE, tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no exported student"):
        verify(tmp_path)
    with pytest.raises(ValueError, match="--runtime litert: write onnxruntime, openvino, ncnn or executorch"):
        verify(exported, runtime="litert")
    for runtime, file in {"ncnn": "student.ncnn.param", "executorch": "student.pte"}.items():
        with pytest.raises(FileNotFoundError, match=f"for {runtime}: none of {file} beside goldens.npz"):
            verify(exported, runtime=runtime)
    (tmp_path / "made.npy").write_bytes(b"no numbers")
    with pytest.raises(ValueError, match="made.npy is no .npy file"):
        verify(tmp_path, outputs=tmp_path / "made.npy")
    np.save(tmp_path / "made.npy", np.zeros((1, 3, 12, 12), np.float32))
    [row] = verify(tmp_path, outputs=tmp_path / "made.npy")["files"]
    assert not row["passed"] and "outputs of shape (1, 3, 12, 12)" in row["error"]


def test_damaged_goldens_are_one_line(exported, tmp_path):
    path, whole = tmp_path / FILE, (exported / FILE).read_bytes()
    arrays = dict(np.load(exported / FILE))
    broken = bytearray(whole)
    broken[60:75] = b"\x5a" * 15  # in what is compressed
    damages = [
        *(
            lambda content=content: path.write_bytes(content)
            for content in (b"", b"text", b"PK\x03\x04 cut off")
        ),
        *(lambda content=content: path.write_bytes(content) for content in (whole[:-200], bytes(broken))),
        lambda: (np.save(tmp_path / "one.npy", arrays["output"]), (tmp_path / "one.npy").replace(path)),
        *(
            lambda changed=changed: np.savez(path, **(arrays | changed))
            for changed in (
                {"about": np.array("no JSON")},
                {"output": arrays["output"][:2]},
                {"input_0": np.zeros((), np.uint8)},
                {"input_0": np.array(["text"] * 3)},
                {"input_0": arrays["input_0"][:0], "output": arrays["output"][:0]},
            )
        ),
        lambda: np.savez(path, **{name: array for name, array in arrays.items() if name != "output"}),
    ]
    for damage in damages:
        damage()
        with pytest.raises(
            ValueError, match=r"goldens.npz holds no goldens \(.+\): ganshrink export RUN writes"
        ):
            verify(tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("image_io", ["uint8", "float32"])
def test_files_that_take_pictures_are_replayed_too(image_io, tmp_path):
    images = TensorInputs(list(torch.rand(4, 3, 8, 8) * 2 - 1))
    run, student, example = Run(tmp_path), Wide(), torch.zeros(1, 3, 8, 8)
    outputs.write_export(run, "onnx", student, example, images, image_io=image_io)
    outputs.write_goldens(run, student, example, images)
    runtimes = ["onnxruntime", *["openvino"] * has_openvino()]
    rows = [verify(tmp_path, runtime=runtime)["files"][0] for runtime in runtimes]
    assert all(row["passed"] and row["most_levels"] <= 0.51 for row in rows)


@pytest.mark.exhaustive
def test_a_file_that_is_meant_to_differ_is_compared_with_itself(exported, tmp_path):
    for name in (FILE, "student.onnx"):
        shutil.copy(exported / name, tmp_path)
    export_onnx(Wide(), torch.zeros(1, 3, 12, 12), tmp_path / "student-int8.onnx")
    assert not verify(tmp_path)["passed"]
    add_made(tmp_path / FILE, tmp_path / "student-int8.onnx")
    rows = {row["file"]: row for row in verify(tmp_path)["files"]}
    assert rows["student-int8.onnx"]["against"] == "itself where it was made" and all(
        r["passed"] for r in rows.values()
    )
    (tmp_path / "student-int8.onnx").write_bytes(b"broken")
    found = verify(tmp_path)
    assert not found["passed"] and "error" in next(r for r in found["files"] if "int8" in r["file"])


@pytest.mark.exhaustive
def test_several_inputs_and_label_maps(tmp_path):
    class Two(nn.Module):
        def forward(self, x, noise):
            return torch.tanh(x * noise[:, :, None, None])

    example = (torch.zeros(1, 3, 6, 6), torch.zeros(1, 3))
    write_goldens(tmp_path / FILE, Two(), example, [], about={})
    goldens = read_goldens(tmp_path)
    assert [[t.shape[1:] for t in one] for one in goldens.inputs] == [[(3, 6, 6), (3,)]] * 3
    one_hot = torch.zeros(1, 4, 6, 6)
    one_hot[:, 0] = 1
    write_goldens(tmp_path / FILE, nn.Conv2d(4, 3, 1), (one_hot,), [one_hot[0]], about={})
    assert set(read_goldens(tmp_path).inputs[0][0].unique().tolist()) == {0, 1}


@pytest.mark.exhaustive
def test_the_verb_says_passed_or_fails(exported, tmp_path):
    words = [sys.executable, "-m", "ganshrink", "verify"]
    fine = subprocess.run([*words, str(exported)], capture_output=True, text=True)
    assert fine.returncode == 0 and fine.stdout.startswith("passed  student.onnx in onnxruntime: at most")
    strict = subprocess.run([*words, str(exported), "--levels", "0"], capture_output=True, text=True)
    assert strict.returncode == 1 and "FAILED" in strict.stdout


@pytest.mark.formats
@pytest.mark.parametrize("name", ["openvino", "ncnn", "executorch"])
def test_files_of_other_formats_are_replayed_too(name, exported, tmp_path):
    found = EXPORTERS[name]
    for module in EXTRAS[found.extra]:
        pytest.importorskip(module, reason=f"extra {found.extra}")
    shutil.copy(exported / FILE, tmp_path)
    torch.manual_seed(0)  # the weights of the goldens
    found.export(Wide().eval(), torch.zeros(1, 3, 12, 12), tmp_path / found.file)
    [row] = verify(tmp_path, runtime=found.runtime)["files"]
    assert row["passed"] and row["file"] == found.file and row["most_levels"] < 0.01
    found.export(Wide().eval(), torch.zeros(1, 3, 12, 12), tmp_path / found.file)
    assert not verify(tmp_path, runtime=found.runtime)["passed"]
    for file in found.beside:
        (tmp_path / file).unlink()
    [row] = verify(tmp_path, runtime=found.runtime)["files"]
    assert not row["passed"] and row["error"]
