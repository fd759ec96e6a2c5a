"""Files for other runtimes: what holds for every exporter, and what each is refused for."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ganshrink import nets
from ganshrink.exporters import EXPORTERS
from ganshrink.exporters.case import single_case
from ganshrink.exporters.executorch import Delegable
from ganshrink.exporters.note import FileNote
from ganshrink.exporters.parity import compare, compare_half, on_pictures
from ganshrink.exporters.runtime import EXTRAS
from ganshrink.training.stages import Run
from ganshrink.workflow.formats import in_words, time_format, write_formats


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nets.build("resnet9", ngf=4, blocks=1, affine=True).eval()


def off_by(net: nn.Module, diff: float):
    return lambda batch: net(*batch).detach() + diff


def test_a_file_that_is_off_is_refused() -> None:
    net, batch = nn.Tanh(), (torch.rand(1, 3, 8, 8),)
    with pytest.raises(ValueError, match="the ncnn file differs from torch by 1.2. of 255 levels"):
        compare(off_by(net, 0.01), net, [batch], file="ncnn")
    found = compare_half(off_by(net, 0.01), net, [batch], {}, file="float16 ONNX")
    assert found["max_abs_diff"] == pytest.approx(1.275, rel=1e-3)
    assert on_pictures(off_by(net, 0.01), net, [batch, batch]) == pytest.approx(
        {"images": 2, "max_levels": 1.275, "mean_levels": 1.275, "psnr_db": 46.02}, rel=1e-3
    )
    with pytest.raises(ValueError, match="float16 is too coarse"):
        compare_half(off_by(net, 0.1), net, [batch], {}, file="float16 ONNX")
    with pytest.raises(ValueError, match="gives NaN or infinity .*black"):
        compare_half(off_by(net, float("nan")), net, [batch], {"black": batch}, file="float16 ONNX")
    with pytest.raises(ValueError, match="an image of shape"):
        compare_half(lambda b: net(*b)[:, :1], net, [batch], {}, file="float16 ONNX")


@pytest.mark.parametrize("pad", [(1, 1, 1, 1), (3, 3, 3, 3), (0, 5, 2, 0)])
def test_a_mirrored_border_of_slices_is_torchs_own(pad: tuple[int, ...]) -> None:
    x = torch.rand(2, 3, 7, 6)
    with Delegable():
        found = functional.pad(x, pad, mode="reflect")
        zeros = functional.pad(x, pad)
    assert found.equal(functional.pad(x, pad, mode="reflect")) and zeros.equal(functional.pad(x, pad))


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_of_means_is_torchs_own(affine: bool) -> None:
    x, norm = torch.rand(2, 3, 7, 6) * 9 + 5, nn.InstanceNorm2d(3, affine=affine)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter)
    with Delegable():
        found = norm(x)
    torch.testing.assert_close(found, norm(x), atol=1e-5, rtol=1e-5)
    tracked = nn.InstanceNorm2d(3, track_running_stats=True).eval()
    with Delegable():
        assert tracked(x).equal(tracked(x))


def test_formats_of_one_float_picture_refuse_others() -> None:
    rest = {"inputs": (), "sizes": None, "spec": None, "provenance": None, "file": "ncnn"}
    with pytest.raises(ValueError, match="float32 pictures alone"):
        single_case(tiny(), torch.zeros(1, 3, 16, 16), image_io="uint8", **rest)
    with pytest.raises(ValueError, match="take ids"):
        single_case(nn.Embedding(4, 3), torch.zeros(1, 5, dtype=torch.int64), image_io=None, **rest)


def test_the_table_of_formats(tmp_path: Path) -> None:
    """From what exporters, quantizing and timing left, each in its own file."""
    run = Run(tmp_path)
    close = {"images": 4, "max_levels": 0.01, "mean_levels": 0.001, "psnr_db": 120.0}
    parity = {
        "teacher.onnx": {"bytes": 9},
        "student.onnx": {"format": "onnx", "bytes": 1, "pictures": close},
        "student-int8.onnx": {
            "format": "onnx-int8",
            "images": 32,
            "max_abs_diff": 5.0,
            "mean_abs_diff": 0.5,
            "psnr_db": 44.0,
        },
        "student.pte": {
            "format": "executorch",
            "pictures": {"images": 0},
            "fell_back": {"index": 8},
            "latency": {"ratio": 3.0},
        },
        "student.mlpackage": {"format": "coreml", "unchecked": "not checked here"},
        "mine.bin": {"format": "my_pkg:MINE"},
    }
    run.write("parity.json", parity)
    timed = {"network": "student", "runtime": "onnxruntime", "speedup": {"ratio": 2.0}, "threads": 1}
    run.write("latency.json", {"rows": [{**timed, "network": "teacher"}, timed]})
    write_formats(run)
    rows = {row["format"]: row for row in json.loads((tmp_path / "formats.json").read_text())["rows"]}
    assert list(rows) == ["onnx", "onnx-int8", "executorch", "coreml", "my_pkg:MINE"]
    assert rows["onnx"]["pictures"] == close and rows["onnx"]["latency"] == {"ratio": 2.0, "threads": 1}
    assert rows["onnx-int8"]["pictures"] == {
        "images": 32,
        "max_levels": 5.0,
        "mean_levels": 0.5,
        "psnr_db": 44.0,
    }
    assert rows["onnx-int8"]["latency"] is None and rows["onnx-int8"]["precision"] == "int8"
    assert rows["executorch"]["pictures"] is None and rows["executorch"]["latency"] == {"ratio": 3.0}
    assert rows["coreml"]["unchecked"] == "not checked here" and rows["coreml"]["runtime"] == ""


def worst(run, net: nn.Module, *batch: Tensor) -> float:
    with torch.no_grad():
        return (run(batch) - net(*batch)).abs().max().item()


TIMED = """
import torch
from ganshrink.exporters import Exporter

OPENED = []

def write(model, example, path, *, inputs, **options):
    path.write_text(str(sum(p.numel() for p in model.parameters())))
    return {"bytes": path.stat().st_size}

def run(path, threads):
    OPENED.append((path, path.read_text(), threads))
    return lambda inputs: torch.tanh(inputs[0])

PART = Exporter("student.txt", write, "a number", open=run)
SILENT = Exporter("student.txt", write, "a number")
"""


def test_a_format_is_timed_beside_the_teachers_file_of_the_same(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "timed_part.py").write_text(TIMED)
    monkeypatch.syspath_prepend(tmp_path)
    run = Run(tmp_path / "run")
    (run.path / "student.txt").write_text("7")
    run.write("parity.json", {"student.txt": {"format": "timed_part:PART", "bytes": 1}})
    teacher, example = nn.Conv2d(3, 3, 1), (torch.zeros(1, 3, 8, 16),)
    given = {"image_io": None, "threads": 1, "seconds": 0.01}
    time_format(run, "timed_part:SILENT", teacher, example, **given)  # which nothing here runs
    assert "latency" not in run.read("parity.json")["student.txt"]
    time_format(run, "timed_part:PART", teacher, example, **given)
    (made, whole, _), (path, own, threads) = sys.modules.pop("timed_part").OPENED
    assert (whole, own, threads, path) == ("12", "7", 1, run.path / "student.txt") and not made.exists()
    told = run.read("parity.json")["student.txt"]["latency"]
    assert told["q1"] <= told["ratio"] <= told["q3"] and told["sizes"] == ["3x8x16"] and told["rounds"] > 1
    [row] = run.read("formats.json")["rows"]
    assert row["latency"]["ratio"] == told["ratio"]
    assert in_words(run.path, run.read("parity.json"), None)[0].startswith(f"{path}: {{")


@pytest.mark.formats
@pytest.mark.parametrize("name", EXPORTERS)
def test_a_file_computes_what_torch_does(name: str, tmp_path: Path) -> None:
    """At two sizes, or at its one size; and it says what it takes."""
    found = EXPORTERS[name]
    for module in EXTRAS[found.extra]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: extra {found.extra}")
    net, path, example = tiny(), tmp_path / found.file, torch.rand(1, 3, 32, 32) * 2 - 1
    options = {"inputs": [example[0]], "provenance": {"licence": "MIT"}}
    try:
        entry, sizes = found.export(net, example, path, dynamic_size=True, **options), [(32, 32), (24, 40)]
    except ValueError as refused:
        assert "one size" in str(refused) and not path.exists()
        entry, sizes = found.export(net, example, path, **options), [(32, 32)]
    files = [path, *(tmp_path / file for file in found.beside)]
    assert sorted(tmp_path.iterdir()) == sorted(files)  # and nothing half-made
    told = "".join(
        part.read_bytes().decode(errors="replace")
        for file in files
        for part in (file.rglob("*") if file.is_dir() else [file])
        if not part.is_dir()
    )
    assert "licence" in told and "MIT" in told and "RGB" in told
    assert entry["bytes"] > 1000 and entry["input_values"] == "[-1, 1]"
    if found.open is None:
        assert "not checked" in entry["unchecked"]
        return
    assert entry["pictures"]["images"] == 1
    run = found.open(path, 1)
    if found.python:  # what the report tells users to write
        names = {"np": np, "batch": example.numpy()}
        exec(found.python.format(file=path), names)
        np.testing.assert_allclose(names["image"], run((example,)), atol=1e-3 if name == "ncnn" else 1e-5)
    for size in sizes:
        assert worst(run, net, torch.rand(1, 3, *size) * 2 - 1) < (
            0.03 if entry.get("precision") == "float16" else 1e-4
        )


@pytest.mark.formats
def test_float16_takes_bytes(tmp_path: Path) -> None:
    net, found = tiny(), EXPORTERS["onnx-fp16"]
    entry = found.export(net, torch.zeros(1, 3, 16, 16), tmp_path / "a.onnx", image_io="uint8")
    assert entry["image_io"] == "uint8" and entry["kept"]["InstanceNormalization"] > 3
    picture = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    given = found.open(tmp_path / "a.onnx", 1)((picture,))
    with torch.no_grad():
        wanted = (net(picture / 127.5 - 1) + 1) * 127.5
    assert given.dtype == torch.uint8 and (given - wanted).abs().max() < 4


@pytest.mark.formats
def test_a_note_beside_a_file_is_the_one_inside_others(tmp_path: Path) -> None:
    pytest.importorskip("ncnn", reason="the extra ncnn is not installed")
    found = EXPORTERS["ncnn"]
    found.export(tiny(), torch.zeros(1, 3, 16, 16), tmp_path / found.file, image_io="float32")
    note = FileNote.model_validate_json((tmp_path / f"{found.file}.json").read_text())
    assert note.image_io == "float32" and note.input is not None and note.input.size == (16, 16)
