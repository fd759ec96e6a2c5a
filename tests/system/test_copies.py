"""Networks are copied as they are: with norms of the old style, and with what a forward has kept in them."""

import ast
import re
import warnings
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from ganshrink.system.copies import copied, in_evaluation, in_training


class Keeping(nn.Module):
    """Keeps what it computed in all kinds of places."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("mean", torch.zeros(()))
        self.seen, self.last, self.inside = [], deque(maxlen=1), SimpleNamespace(value=None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        self.output, self.mean, self.inside.value = y, y.mean(), {"of": (y,)}
        self.seen.append(y)
        self.last.append(y)
        return y


def weight_normed() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Conv2d(3, 4, 3, padding=1))


@pytest.mark.parametrize(
    "make",
    [
        Keeping,
        weight_normed,
        lambda: nn.utils.spectral_norm(nn.Conv2d(3, 4, 3, padding=1)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3, padding=1)),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3, padding=1)),
    ],
)
def test_a_copy_computes_the_same_and_is_another(make):
    torch.manual_seed(0)
    model, x = in_evaluation(make()), torch.randn(1, 3, 8, 8)
    expected = model(x)
    twice = copied(copied(model))
    assert torch.equal(twice(x), expected)
    twice(x).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in twice.parameters()}
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in twice.parameters()}


def test_what_one_tensor_was_is_one_tensor_in_the_copy():
    model = Keeping()
    y = model(torch.randn(1, 3, 8, 8))
    copy = copied(model)
    assert copy.output is copy.seen[0] is copy.last[0] is copy.inside.value["of"][0]
    assert model.output is y
    assert y.grad_fn is not None
    assert torch.equal(copy.output, y)
    assert not copy.output.requires_grad


class Quiet(nn.Module):
    """As networks that keep their batch norms frozen are often written."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def train(self, mode: bool = True) -> None:
        super().train(mode)
        self.norm.eval()


def test_a_mode_is_set_whatever_is_returned():
    model = Quiet()
    assert in_training(model) is model
    assert (model.training, model.norm.training) == (True, False)
    assert in_evaluation(model) is model
    assert not model.training


@pytest.mark.slow
def test_nothing_is_asked_of_what_a_users_module_returns():
    """`eval()`, `train()` and `requires_grad_()` of a module may return nothing: they stand alone."""
    found = []
    for path in Path("src").rglob("*.py"):
        text = path.read_text()
        if not re.search(r"\.(eval|train|requires_grad_)\(", text):
            continue
        tree = ast.parse(text)
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and id(node) not in alone:
                mode = node.func.attr in ("eval", "train") and len(node.args) + len(node.keywords) < 2
                if mode or node.func.attr == "requires_grad_":
                    found.append(f"{path}:{node.lineno}")
    assert not found


def test_modules_are_copied_in_one_way():
    """`copy.deepcopy` stops at computed tensors; where it is used, it copies something else than a network."""
    used = {
        str(path.relative_to("src/ganshrink"))
        for path in Path("src/ganshrink").rglob("*.py")
        if "deepcopy(" in path.read_text()
    }
    assert used == {
        "system/copies.py",
        "metrics/judge.py",
        "comparison/matrix.py",
    }  # the last: tables of settings
