"""UGC by recipes and on networks of one's own: what a run leaves, and that it is the student that was made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import ganshrink
from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.nets.layers import Residual
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.predict import predict
from ganshrink.workflow.recipe import resolve
from ganshrink.workflow.verbs import load_networks
from tiny_recipe import done, made_of, stages, tiny, tiny_cycle

METHOD = {
    "name": "ugc", "floor": 1, "lambda_style": 0, "lambda_feature": 0, "extra_blocks": 1, "steps": 4,
    "population": 2, "generations": 2, "teacher_ratio": 3,
}  # fmt: skip
STAGES = {"teacher", "supernet", "search", "finetune"}


def small(folder: Path, **tables: Any) -> dict[str, Any]:
    raw = tiny(
        folder, net={"name": "resnet6", "ngf": 4}, student={"max_steps": 2}, budget="macs=30%", **tables
    )
    return raw | {"method": METHOD | tables.get("method", {})}


def cost_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "cost.json").read_text())


def check_cost(folder: Path, original: nn.Module, size: int) -> None:
    """The budget is kept, and the teacher's cost is that of the original, which has no inserted blocks."""
    cost, example = cost_of(folder), torch.zeros(1, 3, size, size)
    assert cost["student"]["macs"]["exact"] <= cost["budget"]["resolved"]["macs"]
    whole = trace(original, example)
    assert cost["teacher"]["macs"] == {kind: whole.cost(None, kind).macs for kind in ("exact", "paper")}
    assert cost["teacher"]["params"] == sum(p.numel() for p in original.parameters())
    assert cost["budget"]["resolved"]["macs"] == int(0.3 * whole.cost().macs)
    student = load_file(folder / "student.safetensors")
    assert cost["student"]["params"] == sum(
        t.numel() for n, t in student.items() if "running" not in n and "num_" not in n
    )


def test_a_recipe_with_few_labels_leaves_a_student_that_can_be_loaded(tmp_path):
    data = {"label_fraction": "50%", "counts": {"train": 8, "val": 2, "test": 2}}
    outcome = compress_recipe(resolve(small(tmp_path / "run", data=data)), progress=False)
    folder = tmp_path / "run"
    assert set(stages(folder)) == STAGES and made_of(folder) == [
        f"stages/{name}" for name in ("teacher", "supernet", "search", "finetune")
    ]
    check_cost(folder, nets.build("resnet6", ngf=4, blocks=1), 32)
    kept, x = load_networks(folder), torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert torch.equal(kept["student"](x), outcome.student.eval()(x))
    search = json.loads((folder / "search.json").read_text())
    assert search["networks"]["student"]["macs"] == outcome.cost["student"]["macs"]["exact"]
    assert search["fitness"] == "agreement" and search["images"] == 1
    assert "What the search found" in (folder / "report.html").read_text()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(pictures / "a.png")
    [written] = predict(folder, pictures, tmp_path / "made")
    picture = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    with torch.no_grad():
        made = outcome.student(picture[None])[0]
    shown = torch.from_numpy(np.asarray(Image.open(written)).copy()).permute(2, 0, 1).float()
    assert (shown - made.add(1).mul(127.5).round()).abs().max() <= 1


def test_a_cyclegan_is_made_small_in_each_direction_apart(tmp_path, domains):
    """Its students learn from the teacher's images of the domain's own pictures."""
    raw = tiny_cycle(tmp_path / "run", domains | {"direction": "both"}, student={"max_steps": 1})
    quick = {"population": 1, "generations": 1, "extra_blocks": 0}
    compress_recipe(resolve(raw | {"method": METHOD | quick, "budget": "macs=30%"}), progress=False)
    students = []
    for way in ("AtoB", "BtoA"):
        folder = tmp_path / "run" / way
        assert set(stages(folder)) == STAGES - {"teacher"}
        assert made_of(folder)[0] == "../stages/teacher"
        check_cost(folder, nets.build("resnet9", ngf=4, blocks=1), 16)
        stamp = done(folder, "supernet")["made_from"]
        assert stamp["data"] and stamp["data"] == stamp["unlabelled"]
        students.append(load_file(folder / "student.safetensors"))
    first, second = ({name: tuple(t.shape) for name, t in student.items()} for student in students)
    assert first != second or any(not torch.equal(students[0][name], students[1][name]) for name in first)


class Mine(nn.Module):
    """A user's generator: its own layout, a resampling stage in a sequence of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.InstanceNorm2d(8), nn.ReLU())
        self.inner = Residual(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        )
        self.exit = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.exit(self.inner(self.entry(x)))).tanh()


def images(count: int, seed: int) -> list[Tensor]:
    return list(torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1)


def call(folder: Path, scored: int = 0, **changes: Any) -> Any:
    """Eleven pairs, of which every tenth is scored."""
    torch.manual_seed(0)
    pairs = [(image, -image) for image in images(11, 0)]
    pairs[0], pairs[10] = ((image, image) for image in images(2, 9 + scored))
    training = {"max_steps": 2, "batch_size": 2, "accelerator": "cpu", "log_every": 1}
    given = {
        "data": pairs, "unlabelled": images(6, 1), "method": METHOD, "budget": "macs=40%", "run": folder,
        "task": {"name": "pix2pix", "ndf": 4, "d_layers": 1}, "student": training,
        "export": {"onnx": False}, "latency": {"enabled": False}, "progress": False,
    }  # fmt: skip
    return ganshrink.compress(Mine(), **given | changes)


def test_a_network_of_one_s_own_and_images_that_are_scored_have_no_part_in_it(tmp_path):
    first, other = (call(tmp_path / str(scored), scored) for scored in (0, 1))
    ours, theirs = (outcome.student.state_dict() for outcome in (first, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)
    assert first.metrics["student"]["psnr"] != other.metrics["student"]["psnr"]
    assert first.cost["student"]["macs"]["exact"] <= first.cost["budget"]["resolved"]["macs"]
    again, x = load_networks(tmp_path / "0", original=Mine())["student"], torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again(x), first.student.eval()(x))
    found = json.loads((tmp_path / "0/search.json").read_text())["networks"]
    assert len(found["student"]["depths"]) == 2 and found["deep"]["depths"] == [1, 1]  # blocks were inserted
