"""The tutorial tells the truth: its Python runs from top to bottom and prints what stands under each block.

Weights and photos are drawn here, of the kinds that it was written with, and it trains for fewer steps.
"""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

TUTORIAL = Path("docs/bring-your-own-model.md").read_text()
SHORTER = {
    '"batch_size": 4, "max_steps": 80': '"batch_size": 1, "max_steps": 1',
    '{"seconds": 4}': '{"enabled": False}',
}


def write_weights(file: Path) -> None:
    """Random ones with the release's names and layouts: H, W, in, out, and of transposed convolutions H, W, out, in."""
    torch.manual_seed(0)
    shapes = [(9, 9, 3, 32), (3, 3, 32, 64), (3, 3, 64, 128), *[(3, 3, 128, 128)] * 10]
    shapes += [(3, 3, 64, 128), (3, 3, 32, 64), (9, 9, 32, 3)]
    tensors = {}
    for index, shape in enumerate(shapes):
        norm = shape[2] if index in (13, 14) else shape[3]
        for place, tensor in enumerate((torch.randn(shape) * 0.05, torch.zeros(norm), torch.ones(norm) / 2)):
            number = 3 * index + place
            tensors["Variable" + (f"_{number}" if number else "")] = tensor.half()
    save_file(tensors, file)


@pytest.mark.slow
def test_the_tutorial_prints_what_it_says(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name, count in (("trainA", 3), ("trainB", 3), ("testA", 2), ("testB", 2)):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for i in range(count):
            small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8))
            small.resize((72, 80), Image.Resampling.BICUBIC).save(tmp_path / "flowers" / name / f"{i}.jpg")
    write_weights(tmp_path / "faststyle_la_muse_fp16.safetensors")
    monkeypatch.setenv("GANSHRINK_DATA", str(tmp_path))
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", TUTORIAL, re.S)
    names: dict[str, object] = {"__name__": "tutorial"}
    shortened = set()
    for code, printed in blocks:
        for long, short in SHORTER.items():
            shortened |= {long} if long in code else set()
            code = code.replace(long, short)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        assert out.getvalue() == printed
    assert len(blocks) > 6 and shortened == set(SHORTER)
