"""`student.net` in a recipe: what is refused before anything is trained, budgets, and what a run keeps of it."""

import json

import pytest
import torch
from torch import nn

import ganshrink
from ganshrink import nets
from ganshrink.data import TensorPairs
from ganshrink.latency.profiles import read_profile
from ganshrink.methods.original import Original
from ganshrink.workflow.compress import compress_recipe, original_of
from ganshrink.workflow.device_budget import resolve_budget
from ganshrink.workflow.recipe import dump, resolve
from ganshrink.workflow.saved_networks import NetworkSpec, build_network, load_network, save_network
from ganshrink.workflow.student_net import check_student_network, student_network
from ganshrink.workflow.verbs import evaluate_run, load_networks
from tiny_recipe import tiny

EXAMPLE = (torch.zeros(1, 3, 16, 16),)
PAIRS = TensorPairs([(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16))])
OWN = {"name": "devicenet", "ngf": 8, "blocks": 1}


def recipe_of(folder, *, net=OWN, method="uniform", **tables):
    student = {"net": net, "max_steps": 1, **tables.pop("student", {})}
    return resolve(tiny(folder, method={"name": method}, student=student, **tables))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "cat"}, "method cat cuts the teacher's own channels.*set method.name to 'uniform'"),
        ({"student": {"start": "inherit"}}, "student.start = 'inherit' begins with the teacher's weights"),
        ({"net": {**OWN, "in_channels": 5}}, "student.net.in_channels = 5, but the data have 3"),
        ({"net": "sagan"}, "student.net.name = 'sagan' takes latent vectors, and these data have pictures"),
        ({"net": {**OWN, "depth": 5}}, "devicenet has no option 'depth'"),
        (
            {"net": {"name": "srvgg", "ngf": 4, "convs": 1, "scale": 2}},
            r"srvgg, makes images \(3, 32, 32\), the teacher's are \(3, 16",
        ),
        ({"net": {**OWN, "downs": 5}}, "devicenet, "),
        ({"net": {"name": "unet256", "ngf": 4}}, r"unet256, cannot take the data's inputs \(3, 16, 16\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message) as told:
        recipe = recipe_of(tmp_path, **changes)
        whole = student_network(recipe, PAIRS, EXAMPLE)
        check_student_network(whole, nets.build("resnet9", ngf=4, blocks=1), PAIRS)
    assert "\n" not in str(told.value)


def test_a_budget_in_percent_is_of_the_teacher_and_on_another_device_milliseconds_are_absolute(tmp_path):
    teacher = Original(lambda: nets.build("resnet9", ngf=4, blocks=1), EXAMPLE, {})
    recipe = recipe_of(tmp_path, net="devicenet", budget="macs=10%")
    assert recipe.student.net.name == "devicenet" and 'name = "devicenet"' in dump(recipe)
    whole = student_network(recipe, PAIRS, EXAMPLE)
    budget, *_ = resolve_budget(recipe, teacher, whole, folder=tmp_path, shared=tmp_path)
    assert budget.numbers() == {"macs": pytest.approx(teacher.channels.cost().macs / 10, abs=1)}
    recipe = recipe_of(tmp_path, budget="latency=50%@pi.toml")
    with pytest.raises(ValueError, match="with student.net, pi.toml has no time of the teacher"):
        resolve_budget(recipe, teacher, whole, folder=tmp_path, shared=tmp_path)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_share_of_milliseconds_is_of_the_teacher_s_on_this_machine(tmp_path):
    teacher = Original(lambda: nets.build("resnet9", ngf=4, blocks=1), EXAMPLE, {})
    recipe = recipe_of(tmp_path, budget="latency=50%@cpu", latency={"runtime": "torch", "threads": 1})
    whole = student_network(recipe, PAIRS, EXAMPLE)
    budgets = [resolve_budget(recipe, teacher, whole, folder=tmp_path, shared=tmp_path)[0] for _ in range(2)]
    measured = read_profile(tmp_path / "teacher/device-cpu.toml").original
    for budget in budgets:  # the same when the run goes on
        assert budget.latency.amount == pytest.approx(measured / 2) and not budget.latency.percent


def test_a_network_of_this_package_is_built_by_its_file_whatever_is_given_for_the_teacher():
    spec = NetworkSpec(net={"name": "devicenet", "ngf": 4, "blocks": 1}, example=[[1, 3, 16, 16]])
    assert type(build_network(spec, nn.Conv2d(3, 3, 1))).__name__ == "DeviceNet"


def test_two_networks_of_the_user_s_own_are_named_with_a_comma(tmp_path, monkeypatch):
    """Whichever of them a file was made from is built, with the options that the file has."""
    lines = ["from torch import nn"]
    for name, kernel in (("large", 3), ("small", 1)):
        layers = f"nn.Conv2d(3, width, 1), nn.Conv2d(width, 3, {kernel})"
        lines.append(f"def {name}(width: int = 2): return nn.Sequential({layers})")
    (tmp_path / "two_nets.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    for name, width in (("large", 4), ("small", 2)):
        net = {"name": f"two_nets:{name}", "width": width}
        save_network(tmp_path / name, nets.build(**net), NetworkSpec(net=net, example=[[1, 3, 8, 8]]))
    both = "two_nets:large,two_nets:small"
    for name, kernel, width in (("large", 3, 4), ("small", 1, 2)):
        network, _ = load_network(tmp_path / name, both)
        assert network[1].weight.shape == (3, width, kernel, kernel)
    with pytest.raises(
        ValueError, match="was made from two_nets:small, and is no two_nets:large: name both, --net two"
    ):
        load_network(tmp_path / "small", "two_nets:large")
    with pytest.raises(ValueError, match="code that is run only if you name it"):
        load_network(tmp_path / "small")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_run_keeps_both_networks_and_names_them(tmp_path):
    recipe = recipe_of(tmp_path, scratch=True, budget="macs=60%")
    assert type(original_of(recipe)[0]).__name__ == "DeviceNet"
    run = compress_recipe(recipe, progress=False)
    found = load_networks(tmp_path)
    assert [type(network).__name__ for network in found.values()] == ["ResNet", "DeviceNet", "DeviceNet"]
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(found["student"](x), run.student(x))
    assert run.cost["student"]["macs"]["exact"] <= 0.6 * run.cost["teacher"]["macs"]["exact"]
    told = json.loads((tmp_path / "result.json").read_text())
    assert told["nets"] == {"teacher": "resnet9", "student": "devicenet"}
    assert "The student is devicenet" in (tmp_path / "report.html").read_text()
    assert evaluate_run(tmp_path, ("metrics.names=['psnr']",))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_network_given_in_python_is_replaced_by_one_of_this_package(tmp_path):
    teacher = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3, 3, padding=1), nn.Tanh()
    )
    draw = torch.Generator().manual_seed(0)
    pairs = [(torch.rand(3, 16, 16, generator=draw) * 2 - 1,) * 2 for _ in range(10)]
    off = {"export": {"onnx": False}, "latency": {"enabled": False}}
    off["task"] = {"name": "pix2pix", "ndf": 4, "d_layers": 1}
    student = {"max_steps": 2, "batch_size": 2, "net": OWN}
    run = ganshrink.compress(
        teacher, data=pairs, method="uniform", budget="macs=10%", student=student, run=tmp_path, **off
    )
    again = ganshrink.load(tmp_path)
    assert type(again).__name__ == "DeviceNet"
    assert torch.equal(again(EXAMPLE[0]), run.student(EXAMPLE[0]))
    assert list(load_networks(tmp_path, teacher)) == ["teacher", "student"]
