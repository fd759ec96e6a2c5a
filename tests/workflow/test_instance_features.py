"""An encoder of instances is trained with the teacher; students then take what it makes of their photos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ganshrink.data import DataConfig, InputSpec, input_spec, open_dataset
from ganshrink.data.inputs import prepare
from ganshrink.data.instance_features import FILE, encoder_note, features_of, instance_numbers
from ganshrink.nets.instance_encoder import InstanceEncoder
from ganshrink.training.stages import save_tensors
from ganshrink.workflow.compress import compress_recipe, train_recipe
from ganshrink.workflow.predict import predict
from ganshrink.workflow.recipe import resolve
from ganshrink.workflow.saved_networks import load_network
from tiny_recipe import tiny


@pytest.fixture
def streets(tmp_path) -> dict:
    """Cityscapes' instance ids in two classes: a road, and cars of two colours on it."""
    for split in ("train", "val"):
        for kind in ("photos", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for i in range(3):
            ids = np.full((32, 32), 7, np.uint16)
            ids[4:12, 2 + i : 10 + i], ids[18:28, 12:24] = 26000, 26001
            colours = {7: (90, 90, 90), 26000: (200, 20 * i, 30), 26001: (10, 40, 220)}
            photo = np.array([[colours[int(n)] for n in row] for row in ids], np.uint8)
            Image.fromarray(ids).save(tmp_path / "labels" / split / f"{i}.png")
            Image.fromarray(photo).save(tmp_path / "photos" / split / f"{i}.png")
    paths = {kind: str(tmp_path / kind / "{split}") for kind in ("photos", "labels")}
    ids = {"label_ids": "cityscapes", "edges": True, "features": 2}
    return {"name": "labelled", **paths, **ids, "size": 32, "load_size": 32}


def tiny_hd(folder: Path, data: dict, **tables) -> dict:
    tables = {"method": {"name": "uniform"}, **tables}
    raw = tiny(folder, net={"name": "pix2pixhd", "ngf": 2, "blocks": 1, "halvings": 2}, **tables)
    raw["teacher"] |= {"max_steps": 2, "log_every": 1}
    task = {"name": "pix2pixhd", "ndf": 4, "d_layers": 1, "d_scales": 1}
    return raw | {"data": data, "task": {**task, **tables.get("task", {})}}


def test_a_photo_has_features_of_its_instances_and_a_map_alone_those_of_its_classes(tmp_path, streets):
    torch.manual_seed(0)
    encoder = InstanceEncoder(features=2, nef=2).eval()
    means = tuple((0.1 * n, -0.1 * n) for n in range(20))
    save_tensors(tmp_path / FILE, encoder.state_dict(), encoder_note(encoder, means))
    config = DataConfig(**streets, encoder=str(tmp_path))
    images = open_dataset(config, "test")
    sample = images.sample(1, None)
    assert images.in_channels == 23 and sample["input"].shape == (23, 32, 32)
    assert sample["instances"].unique().tolist() == [0, 1, 2]
    with torch.no_grad():
        wanted = encoder(sample["target"][None], sample["instances"][None])[0]
    torch.testing.assert_close(sample["input"][-2:], wanted)
    assert len(wanted.flatten(1).unique(dim=1).T) == 3
    spec = InputSpec.model_validate_json(input_spec(config).model_dump_json())
    alone = prepare(tmp_path / "labels/val/1.png", spec)
    torch.testing.assert_close(alone[-2:], torch.tensor(means).T[:, sample["input"][:20].argmax(0)])
    assert torch.equal(alone[:-2], sample["input"][:-2])
    plain = open_dataset(DataConfig(**streets), "test")
    assert not plain.sample(1, None)["input"][-2:].any() and plain.fingerprint() != images.fingerprint()


@pytest.mark.parametrize(
    ("data", "task", "message"),
    [
        ({"features": 2}, {}, "data.features = 2 without data.encoder are zeros"),
        ({"features": 2}, {"features": 3}, "task.features = 3 trains an encoder: set data.features = 3 too"),
        ({"features": 2, "encoder": "nowhere"}, {}, "data.encoder: there is no file nowhere"),
        ({"features": None, "encoder": "runs/x"}, {}, "encoder makes features: say how many"),
        ({"features": 2, "size": 24, "load_size": 24}, {}, "sides must be multiples of 16"),
        ({"features": 2}, {"features": 2}, "run `ganshrink train`, then compress with data.encoder"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, streets, data, task, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        compress_recipe(resolve(tiny_hd(tmp_path / "run", streets | data, task=task)), progress=False)


def test_more_instances_than_an_encoder_takes_are_told():
    with pytest.raises(ValueError, match=r"a\.png: 1089 instances, an encoder takes 1024 at most"):
        instance_numbers(np.arange(33 * 33).reshape(33, 33), where="a.png")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_student_takes_its_teacher_s_encoder_as_it_is(tmp_path, streets):
    first = tmp_path / "first"
    train_recipe(resolve(tiny_hd(first, streets, task={"features": 2, "nef": 2})), progress=False)
    weights = load_file(first / FILE)
    data = streets | {"encoder": str(first)}
    teacher = {"weights": str(first)}
    made = compress_recipe(
        resolve(tiny_hd(tmp_path / "run", data, teacher=teacher, export={"onnx": True})), progress=False
    )
    assert all(torch.equal(weights[name], tensor) for name, tensor in load_file(first / FILE).items())
    sample = open_dataset(DataConfig(**data), "test").sample(0, None)
    torch.testing.assert_close(
        sample["input"][-2:], features_of(str(first), sample["target"], sample["instances"])
    )
    student, spec = load_network(tmp_path / "run/student.safetensors")
    assert spec.input is not None and spec.input.num_features == 2
    with torch.no_grad():
        torch.testing.assert_close(student(sample["input"][None]), made.student(sample["input"][None]))
    for runtime in ("torch", "onnxruntime"):
        predict(tmp_path / "run", tmp_path / "labels/val", tmp_path / runtime, runtime=runtime)
        assert len(list((tmp_path / runtime).glob("*.png"))) == 3
