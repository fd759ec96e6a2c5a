"""What cannot work is refused before anything is trained; what fails later all the same costs one file."""

import json
import logging
import random
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ganshrink
from ganshrink.cli.main import main
from ganshrink.data import open_dataset
from ganshrink.metrics.value import Value
from ganshrink.training.stages import Run
from ganshrink.workflow.missing import missing
from ganshrink.workflow.preflight import PASSED, check_repeatable, passed, preflight
from ganshrink.workflow.recipe import dump, resolve
from tiny_recipe import tiny

DRAW = torch.Generator().manual_seed(0)
PHOTOS = [torch.rand(3, 16, 16, generator=DRAW) * 2 - 1 for _ in range(10)]
EXAMPLE = torch.zeros(1, 3, 16, 16)


class Net(nn.Module):
    """Two convolutions, with something between them."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.between = between or nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x))).tanh()


class Does(nn.Module):
    """A layer made of a function of itself and its input."""

    def __init__(self, function, strength: float = 1.0) -> None:
        super().__init__()
        self.function, self.count = function, 0
        self.strength = nn.Parameter(torch.full((1, 8, 1, 1), strength))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.function(self, x)


class Rooted(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.rand_like(x))


def noisy(layer, x):
    return x + layer.strength * torch.randn(len(x), 1, *x.shape[2:])


def attention(layer, x):
    return F.scaled_dot_product_attention(x, x, x)


def seeded(layer, x):
    return x + torch.rand(x.shape, generator=torch.Generator().manual_seed(0))


RANDOM = {
    "noise": (lambda: Net(Does(noisy)), r"randn draws random numbers in module 'between'"),
    "noise that starts at zero": (lambda: Net(Does(noisy, 0.0)), "randn .*'between'"),
    "noise in the network's own forward": (Rooted, r"rand.* in the forward of Rooted"),
    "dropout by function": (lambda: Net(Does(lambda layer, x: F.dropout(x, 0.5))), "draws .*'between'"),
    "dropout that is always on": (
        lambda: Net(Does(lambda layer, x: F.dropout2d(x, 0.5, training=True))),
        "draws random numbers in module 'between'",
    ),
    "noise written in place": (
        lambda: Net(Does(lambda layer, x: x + torch.empty_like(x).normal_())),
        "normal_ draws .*'between'",
    ),
    "Python's own numbers": (
        lambda: Net(Does(lambda layer, x: x * random.random())),
        "differs from run to run, first in module 'between'",
    ),
    "a counter": (lambda: Net(Does(lambda layer, x: x * layer.count)), "differs .*'between'"),
}
STEADY = {
    "dropout in training alone": lambda: Net(nn.Dropout(0.5)),
    "batch norm": lambda: Net(nn.BatchNorm2d(8)),
    "attention": lambda: Net(Does(attention)),
    "a seed of its own": lambda: Net(Does(seeded)),
    "a dropout of nothing": lambda: Net(Does(lambda layer, x: F.dropout(x, 0.0))),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_a_generator_that_draws_is_refused_with_what_draws_and_where(kind):
    make, message = RANDOM[kind]
    with pytest.raises(ValueError, match=message) as caught:
        check_repeatable(make().eval(), (torch.rand(1, 3, 16, 16),))
    assert "\n" not in str(caught.value) and "buffer" in str(caught.value)


@pytest.mark.parametrize("kind", STEADY)
def test_a_generator_that_computes_one_image_is_taken_and_left_as_it_was(kind):
    network = STEADY[kind]().eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    check_repeatable(network, (torch.rand(1, 3, 16, 16),))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def compress(network, folder, **more):
    quick = {"student": {"max_steps": 1, "batch_size": 2}, "latency": {"enabled": False}}
    given = {"task": "image2image", "method": "uniform", "budget": "macs=70%", "progress": False, **quick}
    return ganshrink.compress(network, EXAMPLE, PHOTOS, run=folder, **{**given, **more})


def trained(folder: Path) -> bool:
    return any(folder.glob("stages/*/done.json"))


class NoOnnx(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-3 * torch.special.bessel_j0(x)


@pytest.mark.slow
def test_a_network_that_does_not_export_is_refused_before_it_is_trained(tmp_path):
    with pytest.raises(
        ValueError, match=r"student.onnx would fail after the training.*leave onnx out of \[export\]"
    ):
        compress(NoOnnx(), tmp_path)
    assert not trained(tmp_path)


def test_a_network_without_a_plain_convolution_has_no_int8_file_and_is_refused_at_once(tmp_path):
    class Own(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    network = Net()
    network.first, network.last = Own(3, 8, 3, padding=1), Own(8, 3, 3, padding=1)
    with pytest.raises(ValueError, match="quantization would fail .* first: Own has a forward of its own"):
        compress(network, tmp_path, quantization={"mode": "calibrate"}, export={"onnx": False})
    assert not trained(tmp_path)


EXPORTER = """
from ganshrink.exporters.exporter import Exporter

TRIED = []

def write(model, example, path, **_):
    TRIED.append(path.parent.name)
    if path.parent.name == "lost":
        raise RuntimeError("no translation\\nof this")
    path.write_text("made")
    return {"bytes": 4, "max_abs_diff": 0.0, "inputs": 1}

PART = Exporter("student.part", write, "a part")
"""


class Fails:
    """A metric that cannot be computed in the end."""

    name, needs = "fails", frozenset()

    def __init__(self, setup) -> None:
        self.reset()

    def reset(self) -> None: ...

    def update(self, batch) -> None: ...

    def compute(self) -> Value:
        raise ArithmeticError("no number\nat all")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_late_failure_costs_a_file_and_is_told(tmp_path, monkeypatch, caplog):
    (tmp_path / "own_exporter.py").write_text(EXPORTER)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "lost"
    asked = {
        "export": {"onnx": False, "formats": ("own_exporter:PART",)},
        "metrics": ["psnr_teacher", Fails(None)],
    }
    made = compress(Net(), folder, **asked)
    assert set(made.missing) == {"metrics.json", "student.part"}
    assert made.missing["metrics.json"] == "no fails: no number"
    assert "no translation" in made.missing["student.part"] and made.missing == missing(folder)
    assert set(made.metrics["student"]) == {"psnr_teacher"}  # the other metric is not lost with it
    page = (folder / "report.html").read_text()
    assert "student.part" in page and "no translation" in page and "no number" in page
    assert "student.part is missing: " in caplog.text

    import own_exporter

    assert (folder / PASSED).exists() and len(own_exporter.TRIED) == 2  # before the training, and after it
    del own_exporter.TRIED[:]
    compress(Net(), tmp_path / "other", **asked | {"metrics": ["psnr_teacher"]})
    compress(Net(), tmp_path / "other", **asked | {"metrics": ["psnr_teacher"]})
    assert len(own_exporter.TRIED) == 3  # of the second call only the file itself
    assert not missing(tmp_path / "other")


def test_what_passed_is_not_tried_again_until_something_else_is_asked(tmp_path):
    raw = tiny(tmp_path / "run")
    recipe, run = resolve(raw), Run(tmp_path / "run", seed=0)
    images = open_dataset(recipe.data, "test")
    preflight(run, recipe, Net(), (EXAMPLE,), images)
    assert passed(run.path, recipe, Net(), (EXAMPLE,), images)
    other = {
        "recipe": resolve(tiny(tmp_path / "run", metrics={"names": ["psnr"]})),
        "network": Net(nn.Tanh()),
    }
    other |= {"example": (EXAMPLE[..., :8],), "images": open_dataset(recipe.data, "val")}
    for name, value in other.items():
        asked = {"recipe": recipe, "network": Net(), "example": (EXAMPLE,), "images": images} | {name: value}
        assert not passed(run.path, **asked), name
    wider = resolve(tiny(tmp_path / "run", net={"ngf": 8}))  # though its network looks the same
    assert not passed(run.path, wider, Net(), (EXAMPLE,), images)
    (run.path / PASSED).write_text("{")
    assert not passed(run.path, recipe, Net(), (EXAMPLE,), images)


class Switched(Net):
    noisy = False

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.rand_like(x) if self.noisy else x)


@pytest.mark.slow
def test_a_network_that_draws_since_it_passed_is_refused(tmp_path):
    net = Switched()
    compress(net, tmp_path, export={"onnx": False}, metrics=["psnr_teacher"])
    net.noisy = True
    with pytest.raises(ValueError, match="draws random numbers"):
        compress(net, tmp_path, export={"onnx": False}, metrics=["psnr_teacher"])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_command_line_ends_with_what_is_missing(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_exporter_of_cli.py").write_text(EXPORTER)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = tiny(tmp_path / "lost", export={"onnx": False, "formats": ["own_exporter_of_cli:PART"]})
    recipe["teacher"] |= {"max_steps": 1}
    (tmp_path / "recipe.toml").write_text(dump(resolve(recipe)))
    words = ["ganshrink", "compress", str(tmp_path / "recipe.toml"), "--quiet", "student.max_steps=1"]
    monkeypatch.setattr(sys, "argv", words)
    handler, package = signal.getsignal(signal.SIGTERM), logging.getLogger("ganshrink")
    handlers, level = package.handlers[:], package.level
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        signal.signal(signal.SIGTERM, handler)
        package.handlers[:] = handlers
        package.setLevel(level)
    out, err = capsys.readouterr()
    assert stop.value.code == 1 and "report.html" in out
    assert err.splitlines()[-1].startswith(
        "error: the student is finished, but some files could not be made: "
    )
    assert "student.part (" in err and "no translation" in err


def test_what_was_missing_and_is_made_by_a_verb_is_missing_no_more(tmp_path):
    from ganshrink.workflow.missing import found, losing

    run = Run(tmp_path)
    for name in ("student.onnx", "latency.json"):
        with losing(run, name):
            raise ValueError(f"no {name}")
    found(run, "student.onnx")
    assert json.loads((tmp_path / "missing.json").read_text()) == {"latency.json": "no latency.json"}
    found(run, "latency.json")
    assert not (tmp_path / "missing.json").exists() and not missing(tmp_path)
