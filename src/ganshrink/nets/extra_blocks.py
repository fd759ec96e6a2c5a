"""Residual blocks inserted into any generator after every layer that changes the image's size: UGC's search in depth.

Ren et al. 2023, section 4.1: "insert resnet blocks after every upsample/downsample layer into the original model". They
begin as the identity, so that a network means the same with and without them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganshrink.nets.layers import Norm, Residual, norm_layer, residual_block
from ganshrink.system.copies import copied, in_evaluation

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
CONVS = (nn.Conv2d, nn.ConvTranspose2d)
RESIZING = (nn.Upsample, nn.PixelShuffle, nn.AvgPool2d, nn.MaxPool2d)
# What belongs to a stage when it follows its convolution.
FOLLOWING = (*NORMS, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Dropout, nn.Dropout2d)
SUFFIX, LAYERS = "_extra", 7  # of an inserted sequence's name; in each of its blocks


@dataclass(frozen=True)
class Stage:
    """A resampling layer with the layers that belong to it, in one `nn.Sequential`.

    Attributes:
        parent: path of that sequence.
        last: name of the stage's last layer in it.
        width: channels of its output.
        norm: its norm, or the network's first one.
    """

    parent: str
    last: str
    width: int
    norm: nn.Module | None


def with_extra_blocks(network: nn.Module, example: Sequence[Tensor], count: int) -> nn.Module:
    """A copy with `count` residual blocks of two 3x3 convolutions after every resampling stage (see `find_stages`).

    The block's norm is of the network's kind, with a scale, which is 0 at first: the copy computes the same. Names of the
    network's own parameters stay; those of the blocks are `extra_sites` of the copy.

    Args:
        network: without parametrizations.
        example: inputs; one image is enough.
        count: blocks at each place; 0 gives a plain copy.

    Raises:
        ValueError: if the network depends on the positions of its layers, so that inserted ones change what it computes.
    """
    grown = copied(network)
    for stage in find_stages(grown, example) if count else ():
        norm = _norm_like(stage.norm)
        blocks = nn.Sequential(*(residual_block(stage.width, norm, bias=False) for _ in range(count)))
        like = next(grown.parameters())
        blocks.to(like.device, like.dtype)
        blocks.train(network.training)
        _insert(grown.get_submodule(stage.parent), stage.last, blocks)
    begin_as_identity(grown)
    if count and not _same(network, grown, example):
        raise ValueError(
            f"blocks inserted into {type(network).__name__} change what it computes: its forward picks layers by their "
            "position; set method.extra_blocks = 0, or call the layers of each nn.Sequential in order"
        )
    return grown


def begin_as_identity(network: nn.Module) -> nn.Module:
    """Set the last scale of every inserted block to 0, in place: freshly initialised ones begin as the identity."""
    with torch.no_grad():
        for site in extra_sites(network):
            for path in site:
                network.get_submodule(path).body[-1].weight.zero_()  # type: ignore[union-attr,index,operator]
    return network


def extra_sites(network: nn.Module) -> list[list[str]]:
    """Paths of the inserted blocks, a list for each place in the order in which they run."""
    return [
        [f"{path}.{name}" for name, _ in module.named_children()]
        for path, module in network.named_modules()
        if path.endswith(SUFFIX) and isinstance(module, nn.Sequential) and all(map(_is_block, module))
    ]


def in_extra_block(path: str) -> bool:
    """Whether a module's or a parameter's path leads into an inserted block."""
    return any(part.endswith(SUFFIX) for part in path.split("."))


def find_stages(network: nn.Module, example: Sequence[Tensor]) -> list[Stage]:
    """Where blocks can go, in forward order of the modules: after a strided convolution (transposed or not), a resizing
    layer and the convolution after it, or a convolution and its pixel shuffle, and the norm and activation that follow, all
    in one `nn.Sequential`; and after a resizing layer that has one for itself.

    Not where the map is a single pixel high or wide, where it is the network's image, or where the layer runs twice.
    """
    shapes, calls, image = _watched(network, example)
    first = next((module for module in network.modules() if isinstance(module, NORMS)), None)
    found = []
    for path, parent in network.named_modules():
        if not isinstance(parent, nn.Sequential):
            continue
        layers = list(parent.named_children())
        found_ends = (_end(layers, at) for at in range(len(layers)) if _resamples(layers[at][1]))
        ends = sorted({end for end in found_ends if end is not None})
        for begin, end in pairwise([-1, *ends]):
            name = layers[end][0]
            full = f"{path}.{name}" if path else name
            made = shapes.get(full)
            if made is None or calls[full] != 1 or len(made) != 4 or min(made[2:]) < 2:
                continue
            if made == image.shape:
                continue
            own = [layer for _, layer in layers[begin + 1 : end + 1] if isinstance(layer, NORMS)]
            found.append(Stage(path, name, made[1], own[-1] if own else first))
    return found


def _resamples(layer: nn.Module) -> bool:
    return isinstance(layer, RESIZING) or (isinstance(layer, CONVS) and max(layer.stride) > 1)


def _end(layers: Sequence[tuple[str, nn.Module]], at: int) -> int | None:
    """The last layer of the stage whose resampling layer is number `at`; None if its convolution is elsewhere."""
    if len(layers) == 1:
        return at
    shuffled = isinstance(layers[at][1], nn.PixelShuffle) and at and isinstance(layers[at - 1][1], CONVS)
    while not shuffled and not isinstance(layers[at][1], CONVS):
        at += 1
        if at == len(layers):
            return None
    while at + 1 < len(layers) and isinstance(layers[at + 1][1], FOLLOWING):
        at += 1
    return at


def _norm_like(norm: nn.Module | None) -> Norm:
    if not isinstance(norm, nn.BatchNorm2d):
        return norm_layer("instance", affine=True)
    return norm_layer("batch" if norm.track_running_stats else "batch_stats", affine=True)


def _insert(parent: nn.Module, last: str, blocks: nn.Module) -> None:
    """Into a sequence after one of its layers; the names of the others stay."""
    layers = dict(parent.named_children())
    for name in layers:
        delattr(parent, name)
    for name, layer in layers.items():
        parent.add_module(name, layer)
        if name == last:
            parent.add_module(f"{name}{SUFFIX}", blocks)


def _is_block(module: nn.Module) -> bool:
    return isinstance(module, Residual) and len(list(module.body.children())) == LAYERS


def _same(network: nn.Module, grown: nn.Module, example: Sequence[Tensor]) -> bool:
    """Whether two networks make the same image, from the same noise where they draw any."""
    images = []
    for one in (network, grown):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            try:
                images.append(_watched(one, example)[2])
            except (
                RuntimeError,
                TypeError,
                IndexError,
                ValueError,
            ):  # what shapes that no longer fit may raise
                return False
    return torch.equal(*images)


def _watched(
    network: nn.Module, example: Sequence[Tensor]
) -> tuple[dict[str, torch.Size], Counter[str], Tensor]:
    """The shape of what every module gave, how often it ran, and the network's image, in evaluation."""
    shapes: dict[str, torch.Size] = {}
    calls: Counter[str] = Counter()
    flags = [(module, module.training) for module in network.modules()]

    def watch(path: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            calls[path] += 1
            if isinstance(output, Tensor):
                shapes[path] = output.shape

        return hook

    hooks = [module.register_forward_hook(watch(path)) for path, module in network.named_modules()]
    try:
        with torch.no_grad():
            image = in_evaluation(network)(*example)
    finally:
        for module, training in flags:
            module.training = training
        for handle in hooks:
            handle.remove()
    return shapes, calls, image
