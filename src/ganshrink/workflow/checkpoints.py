"""A user's checkpoint without a recipe: its network is recognised, and the recipe written."""

import logging
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.data import InputSpec
from ganshrink.metrics.weights import weights_path
from ganshrink.nets.checkpoint_file import SUFFIXES, levels, listed, preferred, read_networks
from ganshrink.nets.graph_files import GRAPHS, read_graph
from ganshrink.nets.recognise import Recognised, Unknown, is_judge, recognise
from ganshrink.nets.weights_file import named_network, renamed
from ganshrink.system.atomic import write_text
from ganshrink.system.copies import in_evaluation
from ganshrink.workflow.net_config import NetConfig
from ganshrink.workflow.overrides import parse_overrides, put
from ganshrink.workflow.recipe import Recipe, resolve
from ganshrink.workflow.saved_networks import NetworkSpec, example_input, read_spec, save_network
from ganshrink.workflow.values import of_class

logger = logging.getLogger(__name__)

IMPORTED = "generator.safetensors"
SAME = 1e-3  # of the picture's largest value: more is no rounding


@dataclass(frozen=True)
class Checkpoint:
    """A generator out of a checkpoint.

    Attributes:
        source: the file, and the key of the network in it where there are several: `FILE:KEY`.
        net: name and options of the network.
        state: its weights, under our names.
        said: what was recognised and done, a line each.
    """

    source: str
    net: dict[str, Any]
    state: dict[str, Tensor]
    said: tuple[str, ...]

    def build(self) -> nn.Module:
        """The generator with its weights, in eval mode."""
        network = nets.build(**self.net)
        network.load_state_dict(self.state)
        return in_evaluation(network)


def is_checkpoint(path: str | Path) -> bool:
    """Whether a path names a checkpoint, by its ending, or a folder of pytorch-CycleGAN-and-pix2pix."""
    file, _ = nets.split_key(path)
    return file.suffix in SUFFIXES or (file.is_dir() and any(file.glob("*_net_*.pth")))


def is_ours(path: str | Path) -> bool:
    """Whether a file is a weights file that says which network it holds."""
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return False
    try:
        read_spec(path)
    except ValueError:  # of another origin, or damaged, which is told when it is read
        return False
    return True


def open_checkpoint(
    path: str | Path, *, net: str | None = None, options: Mapping[str, Any] | None = None
) -> Checkpoint:
    """The generator of a checkpoint.

    Args:
        path: a weights file, `FILE:KEY` for one of several networks in it, or a folder such as `checkpoints/NAME`.
        net: which network it is, a name or MODULE:NAME; none: it is recognised.
        options: of the network, over those that are recognised, such as `norm="instance"`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no generator that is known, or several; the message says what is in it.
    """
    file, key = nets.split_key(path)
    file = _found(file)
    given = dict(options or {})
    if net is None and (own := _written_here(file)):
        net, given = own["name"], {key: value for key, value in own.items() if key != "name"} | given
    if net is not None:
        network = nets.build(net, **given)
        source = f"{file}:{key}" if key else str(file)
        return Checkpoint(
            source, {"name": net, **given}, nets.load_weights(source, network), (f"{net}, as is said",)
        )
    key, found = _recognised(file, key)
    source = f"{file}:{key}" if key else str(file)
    said = [f"{found.described}, {found.layout or 'under names that are not known'}", *found.fit.notes]
    if file.suffix in GRAPHS:
        said += _same_pictures(file, found)
    elif not found.layout and found.fit.renamed:
        said += [
            f"its tensors are taken by order and shape: {renamed(found.fit)}",
            "padding, activations and value range are in no file; they are taken as usual: look at a picture of it",
        ]
    state = found.fit.state
    if given:
        state = nets.load_weights(source, nets.build(found.name, **{**found.options, **given}))
        said.append(f"with {', '.join(f'{name} = {value}' for name, value in given.items())}, as is said")
    return Checkpoint(source, {"name": found.name, **found.options, **given}, state, tuple(said))


def import_checkpoint(
    path: str | Path,
    out: str | Path | None = None,
    *,
    net: str | None = None,
    overrides: Sequence[str] = (),
    bgr: bool = False,
) -> dict[str, Any]:
    """Write a checkpoint's generator as a weights file of ours, and a recipe that makes it small, into a folder.

    Args:
        out: the folder; none: `imported/` and the file's name.
        net, overrides: as `open_checkpoint`, options as `norm=instance`.
        bgr: the generator takes and gives BGR; the written one RGB.

    Returns:
        folder, weights, recipe, net and what was recognised (`said`).
    """
    found = open_checkpoint(path, net=net, options=parse_overrides(overrides))
    if bgr:
        swapped = reversed_colours(found.state)
        found = Checkpoint(found.source, found.net, swapped, (*found.said, "BGR became RGB"))
    folder = Path(out) if out is not None else Path("imported") / _stem(path)
    folder.mkdir(parents=True, exist_ok=True)
    spec = InputSpec(channels=found.net.get("in_channels", 3), size=(size := _size(found.net), size))
    network, shape = found.build(), list(example_input(spec).shape)
    whole = NetworkSpec(net=found.net, example=[shape], input=spec, values=of_class(network))
    save_network(folder / IMPORTED, network, whole)
    raw = raw_recipe(found, str((folder / IMPORTED).absolute()))
    lines = "".join(f"# {line}\n" for line in (f"Made from {found.source}:", *found.said))
    use = "# Use it: ganshrink compress THIS data.photos=PICTURES, a folder of inputs\n"
    write_text(folder / "recipe.toml", lines + use + tomli_w.dumps(raw))
    return {
        "folder": str(folder),
        "weights": str(folder / IMPORTED),
        "recipe": str(folder / "recipe.toml"),
        "net": found.net,
        "said": list(found.said),
    }


def recipe_for(
    path: str | Path, pictures: str | Path | None, overrides: Sequence[str] = (), *, net: str | None = None
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe that makes a checkpoint's generator small with pictures for it to work on.

    Args:
        pictures: a folder of inputs, or one with `train` and `test` in it.
        overrides: `key=value`; those of [net] go over what is recognised.

    Returns:
        the recipe, and what of it was written before the overrides.
    """
    if pictures is None:
        raise ValueError(
            f"{path} is a checkpoint: give the folder of the pictures that it works on too, such as `compress {path} photos`"
        )
    said = parse_overrides(overrides).get("net", {})
    options = {key: value for key, value in said.items() if key not in NetConfig.model_fields}
    found = open_checkpoint(path, net=net, options=options)
    for line in found.said:
        logger.info("%s: %s", Path(found.source).name, line)
    raw = raw_recipe(found, found.source)
    raw["run"] = f"runs/{_stem(path)}"
    raw["data"]["photos"] = _photos(Path(pictures))
    changed = tomllib.loads(tomli_w.dumps(raw))
    for override in overrides:
        put(changed, override)
    return resolve(changed, source=str(path)), raw


def raw_recipe(found: Checkpoint, weights: str) -> dict[str, Any]:
    """What a recipe for a checkpoint says, but for its pictures and its run."""
    channels = {key: found.net[key] for key in ("in_channels", "out_channels") if key in found.net}
    return {
        "budget": "macs=10%",
        "net": found.net,
        "data": {"name": "photos", "size": _size(found.net), **channels},
        "task": {"name": "image2image"},
        "teacher": {"weights": weights},
    }


def reversed_colours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a generator for RGB where they were for BGR: the first convolution's inputs and the last one's outputs.

    Raises:
        ValueError: if these are not of three channels.
    """
    convs = [name for name, tensor in state.items() if tensor.ndim == 4]
    first, last = convs[0], convs[-1]
    result = dict(state)
    inputs, outputs = state[first].shape[1], min(state[last].shape[:2])
    if inputs != 3 or outputs != 3:
        raise ValueError(f"BGR is for generators of 3 channels, this one has {inputs} and gives {outputs}")
    result[first] = state[first].flip(1)
    axis = 0 if result[last].shape[0] == 3 else 1
    result[last] = result[last].flip(axis)
    bias = f"{last.removesuffix('weight')}bias"
    if bias in result:
        result[bias] = result[bias].flip(0)
    return {name: tensor.contiguous() for name, tensor in result.items()}


def _recognised(file: Path, key: str | None) -> tuple[str, Recognised]:
    """The generator in a file, and its key: averaged weights before raw ones, no discriminator."""
    networks = read_networks(file)
    if key is not None:
        networks = {key: named_network(networks, key, file, "weights")}
    reasons: dict[str, str] = {}
    for level in levels(networks):
        found: dict[str, Recognised] = {}
        for name, state in level.items():
            try:
                found[name] = recognise(state)
            except Unknown as unknown:
                reasons.setdefault(name, str(unknown))
        judges = [name for name in found if is_judge(found[name].name)]
        chosen = preferred([name for name in found if name not in judges])
        if len(chosen) > 1:
            held = ", ".join(f"{name} ({found[name].described})" for name in chosen)
            raise ValueError(f"{file} holds several generators: {held}; choose one: {file.name}:{chosen[0]}")
        if chosen:
            return chosen[0], found[chosen[0]]
        if judges:
            held = ", ".join(found[name].described for name in judges)
            raise ValueError(f"{file} holds a discriminator ({held}): give the file of the generator")
    [(first, reason), *_] = reasons.items()
    what = (
        reason if len(networks) == 1 else f"{listed(networks)}, no generator that is known; {first}: {reason}"
    )
    raise ValueError(
        f"{file} holds {what}; name its network: --as resnet9, or --as MODULE:NAME of your own code"
    )


def _same_pictures(file: Path, found: Recognised) -> list[str]:
    """What a network and the file that holds its graph make of one image, compared, in words.

    Raises:
        ValueError: if they differ: the weights fit, but what is around them is something else.
    """
    graph = read_graph(file)
    network = nets.build(found.name, **found.options)
    network.load_state_dict(found.fit.state)
    image = torch.rand(graph.image, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = in_evaluation(network)(image), graph.run(image)
    apart = (ours - theirs).abs().max().item() if ours.shape == theirs.shape else float("inf")
    if not apart < SAME * theirs.abs().max().clamp(min=1).item():
        raise ValueError(
            f"{file}: its weights fit {found.described}, but it makes another picture of the same image "
            f"({f'up to {apart:.2g} apart' if ours.shape == theirs.shape else f'of {tuple(theirs.shape)}'}): it is none of "
            "our networks"
        )
    said = [f"the file's own graph makes the same picture of an image, to {apart:.1g}"]
    return [*said, f"{graph.after}; the network does not"] if graph.after else said


def _written_here(file: Path) -> dict[str, Any] | None:
    """The network that a weights file of this package says it holds.

    Raises:
        ValueError: if that is a cut of it, which no recipe names.
    """
    if not is_ours(file):
        return None
    spec = read_spec(file)
    if spec.plan is not None or spec.net is None or ":" in spec.net["name"]:
        raise ValueError(
            f"{file} is a weights file of this package that holds a cut network, or one of your own: ganshrink.load opens it"
        )
    return spec.net


def _found(named: Path) -> Path:
    """The file that a path names, from the working directory or from `GANSHRINK_WEIGHTS`."""
    if named.is_dir():
        return _in_folder(named).absolute()
    file = named if named.is_file() else weights_path(named)
    if not file.is_file():
        raise FileNotFoundError(f"there is no weights file {named}{f', nor {file}' if file != named else ''}")
    return file.absolute()


def _in_folder(folder: Path) -> Path:
    """The latest generator of a folder of pytorch-CycleGAN-and-pix2pix."""
    files = sorted(folder.glob("latest_net_G*.pth")) or sorted(folder.glob("*_net_G*.pth"))
    if len(files) == 1:
        return files[0]
    held = ", ".join(path.name for path in files or sorted(folder.iterdir()))
    if not files:
        raise ValueError(
            f"{folder} holds no *_net_G*.pth, the generators of a training, only: {held or 'nothing'}"
        )
    raise ValueError(f"{folder} holds several generators: {held}; name one of these files")


def _photos(folder: Path) -> str:
    """A folder of pictures as a setting: with one folder for each split where it has them."""
    for inside in ("{split}", "{split}A"):
        if (folder / inside.format(split="train")).is_dir() and (
            folder / inside.format(split="test")
        ).is_dir():
            return str((folder / inside).absolute())
    return str(folder.absolute()) if folder.is_dir() else str(folder)


def _size(net: Mapping[str, Any]) -> int:
    """The side of the pictures: 256, or less where a network is made for that."""
    return 128 if net["name"] == "unet128" else 256


def _stem(path: str | Path) -> str:
    """What a checkpoint is called in the names of folders: its file or folder, and the key where one was given."""
    file, key = nets.split_key(path)
    return "-".join([file.name.split(".")[0], *([key] if key else [])])
