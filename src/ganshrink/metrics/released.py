"""Released weights of the judging networks, by name: where they are, what they must be, and where settings look for them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ganshrink.metrics import inception, squeezenet, vgg
from ganshrink.metrics.weights import fetch_weights, read_weights, weights_path
from ganshrink.system.spelling import did_you_mean


@dataclass(frozen=True)
class Released:
    """Weights as their authors publish them.

    Attributes:
        address: theirs. None of these could be tried from where this package is developed.
        sha256: hexadecimal digits that the file's hash begins with, as many as its authors tell.
        file: what it becomes; a relative path starts from `GANSHRINK_WEIGHTS`.
        setting: that names this file.
        convert: from the released tensors to the file's; none: they are the same file.
    """

    address: str
    sha256: str
    file: str
    setting: str
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None


TORCHVISION = "https://download.pytorch.org/models"
RELEASED = {
    "inception": Released(inception.RELEASE, inception.SHA256, inception.RELEASED_NAME, "metrics.inception"),
    "squeezenet": Released(
        f"{TORCHVISION}/squeezenet1_1-b8a52dc0.pth",
        "b8a52dc0",
        squeezenet.FILE,
        "metrics.squeezenet",
        squeezenet.convert_torchvision,
    ),
    "vgg16": Released(f"{TORCHVISION}/{vgg.VGG16_FILE}", "397923af", vgg.VGG16_FILE, "metrics.vgg"),
    "vgg19": Released(f"{TORCHVISION}/{vgg.VGG19_FILE}", "dcbb9e9d", vgg.VGG19_FILE, "task.vgg"),
}


def fetch(name: str, *, source: str | None = None) -> Path:
    """Download released weights to where the settings look for them; a download that broke off goes on.

    What is there already is not fetched again.

    Args:
        name: of `RELEASED`.
        source: another address of the same file.

    Raises:
        FileExistsError: there is another file in its place.
        ConnectionError: the address does not give the file; the message says how to do without.
        ValueError: the name is unknown, or another file came: nothing is kept of it.
    """
    if name not in RELEASED:
        raise ValueError(f"no released weights are called {name!r}{did_you_mean(name, RELEASED)}")
    known = RELEASED[name]
    target = weights_path(known.file)
    if known.convert is not None and target.exists():
        return target
    came = target if known.convert is None else target.with_name(known.address.rpartition("/")[2])
    try:
        fetch_weights(source or known.address, came, sha256=known.sha256)
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}. Get {known.address} elsewhere (its SHA-256 begins with {known.sha256}), put it at {came}, and give "
            "this command again"
        ) from error
    if known.convert is not None:
        save_file(known.convert(read_weights(came)), target)
        came.unlink()
    return target
