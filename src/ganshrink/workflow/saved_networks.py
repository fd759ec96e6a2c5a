"""A network in one file: its weights, and in the metadata all that is needed to build it again.

A pruned network has shapes that no constructor knows, so the file names the original network and carries the plan.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.data import Images, InputSpec, input_spec
from ganshrink.graph import trace
from ganshrink.methods.original import TRANSFORMS, transformed
from ganshrink.pruning import Plan, extract
from ganshrink.reports import directions
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.values import Values, converting
from ganshrink.training.stages import save_tensors

Uncut = nn.Module | str | None
"""A network of the user's own before the cut, or its MODULE:NAME, or both the teacher's and the student's, with a comma."""


class NetworkSpec(BaseModel):
    """How to build a network again.

    Attributes:
        net: name and options for `nets.build`; None for a user's own module.
        transforms: what was done to the original before the cut (see methods.original).
        plan: the cut, as in plan.json; None for a whole network.
        example: the shapes of the inputs that the plan was traced with.
        dtypes: their types; None where all are float32.
        input: what pictures or latent vectors the network takes; None if unknown, or if its input is not one of these.
        values: black and white of what it takes and gives by itself; None: [-1, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    net: dict[str, Any] | None
    transforms: dict[str, Any] = {}
    plan: dict[str, Any] | None = None
    example: list[list[int]]
    dtypes: list[Literal["float32", "int64"]] | None = None
    input: InputSpec | None = None
    values: Values | None = None

    @model_validator(mode="before")
    @classmethod
    def _reads_version_0_1(cls, raw: Any) -> Any:
        """Files of version 0.1 have a field for each transform, false or 0 where it was not done."""
        old = {key: raw[key] for key in TRANSFORMS if key in raw}
        rest = {key: value for key, value in raw.items() if key not in old}
        return rest | {"transforms": {key: value for key, value in old.items() if value}} if old else raw


def example_input(spec: InputSpec) -> Tensor:
    """One input (1, C, H, W) of the kind that a generator takes: a black picture, or a map of class 0; or a latent vector
    (1, C) of zeros."""
    if spec.kind == "latent":
        return torch.zeros(1, spec.channels)
    example = torch.zeros(1, spec.channels, *spec.size)
    if spec.kind == "labels":
        example[:, 0] = 1
    return example


def network_spec(
    net: dict[str, Any] | None, example: Sequence[Tensor], images: Images, values: Values | None = None
) -> NetworkSpec:
    """The spec of a whole network: its name and options or None, example inputs, what images it was trained on, and what
    values it takes and gives by itself."""
    return NetworkSpec(
        net=net,
        example=[list(tensor.shape) for tensor in example],
        dtypes=["float32" if tensor.is_floating_point() else "int64" for tensor in example],
        input=picture_spec(example, images),
        values=values,
    )


def picture_spec(example: Sequence[Tensor], images: Images | None) -> InputSpec | None:
    """What a network takes that was trained on these images: pictures, or latent vectors; None if unknown, or it is neither,
    or several."""
    if images is None or len(example) != 1 or not example[0].is_floating_point():
        return None
    spec = getattr(images, "spec", None)
    latent = spec is not None and spec.kind == "latent"
    return input_spec(images) if latent or example[0].ndim == 4 else None


def save_network(path: str | Path, network: nn.Module, spec: NetworkSpec) -> None:
    save_tensors(Path(path), network.state_dict(), {"ganshrink": spec.model_dump_json()})


def student_file(path: str | Path) -> Path:
    """The student's weights in the folder of a run; any other path as it is.

    Raises:
        FileNotFoundError: if the folder holds no student.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / "student.safetensors").is_file():
        ways = directions(path)
        hint = (
            f"name one of its directions, {' or '.join(ways)}"
            if ways
            else "is it the folder of a finished run?"
        )
        raise FileNotFoundError(f"{path} holds no student.safetensors: {hint}")
    return path / "student.safetensors"


def load_network(path: str | Path, original: Uncut = None) -> tuple[nn.Module, NetworkSpec]:
    """The network of a file that `save_network` wrote, in eval mode, and its spec. It takes and gives pictures in [-1, 1];
    `ganshrink.system.values.raw` makes it one for its own values.

    Args:
        path: a .safetensors file.
        original: for files of a network of the user's own, that network uncut, or its MODULE:NAME, which is called
            with the options that the file has for it. A network of this package is built by what its file says alone.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file, or does not fit.
    """
    spec = read_spec(path)
    try:
        network = build_network(spec, original, source=str(path))
        network.load_state_dict(load_file(path))
    except (RuntimeError, ValueError) as error:
        named = spec.net["name"] if spec.net is not None else ""
        if isinstance(original, str) and ":" in named and _of_names(spec, original) != named:
            raise ValueError(
                f"{path} was made from {named}, and is no {original}: name both, --net {original},{named}"
            ) from error
        if isinstance(error, ValueError):
            raise
        raise ValueError(
            f"{path} does not fit the network it names: {str(error).splitlines()[-1].strip()}"
        ) from None
    return in_evaluation(network), spec


def _of_names(spec: NetworkSpec, given: str) -> str:
    """Of the names that a user gave, with commas, the one that a file has; else the first."""
    names = [name.strip() for name in given.split(",")]
    return spec.net["name"] if spec.net is not None and spec.net["name"] in names else names[0]


def read_spec(path: str | Path) -> NetworkSpec:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from None
    if "ganshrink" not in metadata:
        raise ValueError(
            f"{path} does not say which network it holds: only files written by ganshrink can be built from alone"
        )
    return NetworkSpec.model_validate(json.loads(metadata["ganshrink"]))


def build_network(spec: NetworkSpec, original: Uncut = None, *, source: str = "spec") -> nn.Module:
    """The network that a spec describes, freshly initialised; `original` as for `load_network`."""
    if spec.net is not None and spec.net["name"] in nets.NETS:
        original = None  # of a run, the teacher's may be the user's own and the student's not
    if original is None:
        if spec.net is None:
            raise ValueError(
                f"{source} holds a cut of a network of your own: name that network (--net MODULE:NAME; in Python, "
                "pass it uncut as `original`)"
            )
        if ":" in spec.net["name"]:  # a weights file may come from anyone: it must not choose code to run
            raise ValueError(
                f"{source} was made from {spec.net['name']}, code that is run only if you name it: "
                f"--net {spec.net['name']} (in Python, `original`)"
            )
        original = str(spec.net["name"])
    if isinstance(original, str):
        original = _of_names(spec, original)
        known = spec.net if spec.net is not None and spec.net["name"] == original else {}
        original = nets.build(original, **{key: value for key, value in known.items() if key != "name"})
    if spec.values is not None:
        original = converting(copied(original), spec.values)
    original = transformed(original, example_of(spec), spec.transforms)
    if spec.plan is None:
        return original
    channels = trace(original, *example_of(spec), exact=bool(spec.plan.get("exact")))
    return extract(original, channels, Plan.from_json(channels, spec.plan))


def example_of(spec: NetworkSpec) -> tuple[Tensor, ...]:
    """Inputs of the shapes and types that a spec says, all zero."""
    dtypes = spec.dtypes or ["float32"] * len(spec.example)
    return tuple(
        torch.zeros(shape, dtype=getattr(torch, dtype))
        for shape, dtype in zip(spec.example, dtypes, strict=True)
    )
