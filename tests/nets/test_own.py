"""Networks of a user's own, named MODULE:NAME: found, called with the options, and every mistake is one line."""

import inspect
import sys
from pathlib import Path

import pytest
from torch import nn

from ganshrink import nets

SOURCE = """
import sys
from torch import nn

WIDTH = 4
network = nn.Conv2d(3, 3, 1)

def make(width=WIDTH, *, depth: int = 1, norm="none"):
    return nn.Sequential(*(nn.Conv2d(3, width, 3) for _ in range(depth)))

class Net(nn.Conv2d):
    def __init__(self, size, *, in_channels=3):
        super().__init__(in_channels, size, 1)

def anything(**options):
    import late_module_of_mine
    return nn.Conv2d(late_module_of_mine.CHANNELS, options["out"], 1)

def text():
    return "a network"

def fails():
    raise KeyError("no such weights")

def leaves():
    sys.exit("usage: ...")
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's working directory; what is imported from it is forgotten again."""
    folder = tmp_path / "my_pkg_for_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "nets.py").write_text(SOURCE)
    (folder / "broken.py").write_text("import a_package_that_is_missing")
    (folder / "typo.py").write_text("def make(:")
    (tmp_path / "late_module_of_mine.py").write_text("CHANNELS = 5")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return folder


def test_a_function_and_a_class_of_the_working_directory():
    made = nets.build("my_pkg_for_test.nets:make", width=8, depth=2)
    assert [m.out_channels for m in made] == [8, 8]
    assert nets.build("my_pkg_for_test.nets:Net", size=7).weight.shape == (7, 3, 1, 1)


def test_installed_packages_serve_too_and_the_import_path_stays():
    before = list(sys.path)
    assert isinstance(nets.build("torch.nn:Conv2d", in_channels=1, out_channels=2, kernel_size=3), nn.Conv2d)
    nets.build("my_pkg_for_test.nets:make")
    assert sys.path == before


def test_a_late_import_and_open_ended_options():
    assert nets.build("my_pkg_for_test.nets:anything", out=3).weight.shape == (3, 5, 1, 1)
    assert nets.net_options("my_pkg_for_test.nets:anything") == {}


def test_options_are_the_keyword_parameters():
    assert nets.net_options("my_pkg_for_test.nets:make") == {"width": 4, "depth": 1, "norm": "none"}
    required = inspect.Parameter.empty
    assert nets.net_options("my_pkg_for_test.nets:Net") == {"size": required, "in_channels": 3}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("my_pkg_for_test:", {}, "is named MODULE:NAME, such as my_pkg.nets:make, got 'my_pkg_for_test:'"),
        ("/a/x.py:make", {}, "is named MODULE:NAME"),
        ("none_such.nets:make", {}, "there is no module none_such, neither installed nor in /"),
        ("my_pkg_for_test.net:make", {}, "there is no module my_pkg_for_test.net, neither"),
        ("my_pkg_for_test.nets:mak", {}, "my_pkg_for_test.nets has no 'mak'; did you mean 'make'"),
        ("my_pkg_for_test.nets:WIDTH", {}, "must be a function or class that makes a network, not int"),
        (
            "my_pkg_for_test.nets:network",
            {},
            "must be a function or class that makes a network, not Conv2d",
        ),
        ("my_pkg_for_test.nets:text", {}, "must return an nn.Module, got str"),
        ("my_pkg_for_test.nets:fails", {}, "nets:fails failed: KeyError: 'no such weights'"),
        ("my_pkg_for_test.nets:leaves", {}, "nets:leaves failed: SystemExit: usage"),
        ("my_pkg_for_test.nets:make", {"widht": 3}, "has no option 'widht'; did you mean 'width'"),
        ("my_pkg_for_test.nets:Net", {}, "nets:Net has no default for size; give a value"),
        (
            "my_pkg_for_test.broken:make",
            {},
            "broken failed: ModuleNotFoundError: .*a_package_that_is_missing",
        ),
        ("my_pkg_for_test.typo:make", {}, "importing my_pkg_for_test.typo failed: SyntaxError: "),
    ],
)
def test_every_mistake_is_one_line(name, options, message):
    with pytest.raises(ValueError, match=message) as error:
        nets.build(name, **options)
    assert "\n" not in str(error.value)
