"""The page's section on few bits."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ganshrink.reports import write_report
from telling import rest_exhaustive

LAYERS = [
    {
        "path": "down.1",
        "type": "Conv2d",
        "weight_bits": 8,
        "activation_bits": None,
        "snr_db": None,
        "note": "a stem",
    },
    {
        "path": "up.0",
        "type": "ConvTranspose2d",
        "weight_bits": 8,
        "activation_bits": 8,
        "snr_db": 38.24,
        "note": "",
    },
]
FOUND = {
    "config": {"weight_bits": 8, "activation_bits": 8},
    "psnr_db": {"quantized": 36.51, "bytes": 61.2, "outputs": 44.4, "deployed": 35.9},
    "images": 32,
    "layers": LAYERS,
    "float": {"odd.1": "a Conv1d: only Conv2d and ConvTranspose2d are quantized"},
}


@pytest.fixture
def folder(build_run: Callable[..., Path], tmp_path: Path) -> Path:
    path = build_run(tmp_path / "run", rows=1)
    (path / "quantization.json").write_text(json.dumps(FOUND))
    (path / "student-int8.onnx").write_bytes(b"0" * 852_500)
    parity = json.loads((path / "parity.json").read_text())
    runtimes = {"openvino": {"psnr_db": 51.26, "worst_psnr_db": 47.0, "version": "2026.4"}}
    parity["student-int8.onnx"] = {"psnr_db": 50.0, "images": 32, "runtimes": runtimes}
    (path / "parity.json").write_text(json.dumps(parity))
    cost = json.loads((path / "cost.json").read_text())
    cost["teacher"]["kernels"], cost["student"]["kernels"] = 8_000_000, 800_000
    cost["int8"] = {**cost["student"], "bytes": 830_000}
    (path / "cost.json").write_text(json.dumps(cost))
    return path


@pytest.mark.slow
def test_bits_parity_sizes_and_costs_are_on_the_page(folder: Path) -> None:
    text = write_report(folder).read_text(encoding="utf-8")
    for words in (
        "51.3 dB, at least 47.0, on 32 images in OpenVINO 2026.4",
        "36.5 dB: rounding weights and inputs",
        "61.2 dB: the levels that no byte holds",
        "student-int8.onnx: 852.50 kB",
        "ratio: 4.0×",
        "Bits of 2 layers",
        "38 dB",
        "odd.1 (a Conv1d: only Conv2d and ConvTranspose2d are quantized)",
    ):
        assert words in text, words


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_student_trained_in_few_bits_without_a_file_is_said_to_be_one(folder: Path) -> None:
    (folder / "quantization.json").write_text(json.dumps({"trained": {"weight_bits": 8}}))
    text = write_report(folder).read_text(encoding="utf-8")
    assert "The student was trained in few bits." in text and "Bits of" not in text


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_refused_file_says_why(folder: Path) -> None:
    (folder / "quantization.json").write_text(json.dumps({"refused": "31.0 dB on 32 images <at least 40>"}))
    text = write_report(folder).read_text(encoding="utf-8")
    assert "There is no INT8 file: 31.0 dB on 32 images &lt;at least 40&gt;." in text


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    rest_exhaustive(
        ["", "[]", "{", '{"layers": 3, "psnr_db": null, "float": []}'], lambda c: len(c) > 2 or not c
    ),
)
def test_a_broken_file_does_not_break_the_page(folder: Path, content: str) -> None:
    (folder / "quantization.json").write_text(content)
    assert write_report(folder).is_file()
