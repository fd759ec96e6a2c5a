"""Which values a generator takes and gives: as its recipe says, else as its last operator and its first outputs tell."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.data import Images
from ganshrink.data.passes import spread_inputs
from ganshrink.exporters.picture import are_pictures
from ganshrink.pruning.untouched import random_numbers_kept
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.generator import generate
from ganshrink.system.values import PLAIN, ValueRange, Values, converting, decoded, raw, values_of
from ganshrink.workflow.net_config import NetConfig

logger = logging.getLogger(__name__)

LOOKED_AT = 4  # images that a generator makes before anything else is done
BEYOND = 1.2  # of [-1, 1]: what lies farther out is no overshoot
ALLOWED = 0.2  # of an image's values that may
UNIT = ValueRange(range=(0, 1))
BYTES = ValueRange(range=(0, 255))
# Operators behind the last one that computes values, which move them alone.
_MOVING = (
    "Slice",
    "View",
    "Reshape",
    "Permute",
    "Clone",
    "Transpose",
    "ToCopy",
    "Unsafe",
    "Squeeze",
    "Unsqueeze",
)
_LAST = {"Tanh": PLAIN, "Sigmoid": UNIT, "Hardsigmoid": UNIT}


def built(net: NetConfig, values: Values | None) -> nn.Module:
    """A recipe's network, freshly initialised, with pictures in [-1, 1] on both sides."""
    return converting(nets.build(net.name, **net.options), values)


def of_class(network: nn.Module) -> Values | None:
    """What a network's class says in `value_range`, black and white of what it takes and gives."""
    own = getattr(network, "value_range", None)
    return None if own is None else Values(input=ValueRange(range=own), output=ValueRange(range=own))


def values_for(net: NetConfig, network: nn.Module, images: Images, *, trained: bool) -> Values | None:
    """What a generator takes and gives by itself; None: [-1, 1], as everything here.

    Args:
        network: the generator as its user has it; copies of it are run.
        trained: whether its outputs tell anything; else only its last operator does.

    Raises:
        ValueError: if its outputs do not fit what is said or guessed.
    """
    batches = list(spread_inputs(images, LOOKED_AT if trained else 1, batch_size=1))
    pictures = are_pictures(batches[0])
    said = net.values() or values_of(network)
    network = in_evaluation(raw(copied(network)))
    try:
        _image(network, batches[0])
    except Exception:  # that it cannot take these inputs is told where it is tried in full
        return said
    said = said or of_class(network)
    found = said.model_copy(update={"pictures": pictures}) if said else None
    with random_numbers_kept():
        if found is None:
            found = _guessed(network, batches, pictures, trained=trained)
        _check_channels(found, batches[0])
        if trained:
            check_values(converting(network, found), batches, said=said is not None)
    return None if (found.input, found.output) == (PLAIN, PLAIN) else found


def check_values(network: nn.Module, batches: Sequence[tuple[Tensor, ...]], *, said: bool) -> None:
    """Refuse a trained generator whose images are far from [-1, 1] after its conversion.

    Raises:
        ValueError: with what its values are, and how to say so.
    """
    image = torch.cat([_image(network, batch) for batch in batches])
    values = values_of(network) or Values()
    made = values.output.encode(image)
    low, high = float(made.min()), float(made.max())
    out = float((image.abs() > BEYOND).float().mean())
    wide = values.output.range[1] - values.output.range[0] > 10
    if out > ALLOWED or (wide and float(image.max() - image.min()) < 0.02):
        whose = "as net.range, net.mean and net.std say" if said else "which nothing says otherwise"
        raise ValueError(
            f"the generator gives values from {low:.3g} to {high:.3g} on these images, which do not fit {values.output}, "
            f"{whose}: set net.range to its black and white, such as [0, 1] or [0, 255], and net.mean and net.std where its "
            "colours are normalised"
        )


def _guessed(
    network: nn.Module, batches: Sequence[tuple[Tensor, ...]], pictures: tuple[bool, ...], *, trained: bool
) -> Values:
    last = last_operator(network, batches[0])
    guess, why = _LAST.get(last), f"the generator ends in {last.lower()}"
    if guess is None and trained:
        made = torch.cat([_image(network, batch) for batch in batches])
        low, high = float(made.min()), float(made.max())
        if 0 <= low < high <= 1:
            guess, why = UNIT, f"the generator gives {low:.3g} to {high:.3g} on these images"
        elif high > 64 and float(((made < -16) | (made > 271)).float().mean()) < 0.05:
            guess, why = BYTES, f"the generator gives {low:.3g} to {high:.3g} on these images"
    if guess is None or guess == PLAIN:
        return Values(pictures=pictures)
    logger.warning(
        "net.range = %s is taken, for inputs too, since %s; where its inputs are in [-1, 1] say net.range = [-1, 1] and "
        "net.output_range = %s",
        guess, why, guess,
    )  # fmt: skip
    return Values(input=guess, output=guess, pictures=pictures)


def last_operator(network: nn.Module, inputs: Sequence[Tensor]) -> str:
    """What computed a generator's image last, as autograd calls it, such as Tanh or Sigmoid; "" where that is not seen."""
    with torch.enable_grad():
        given = [t.detach().clone() for t in inputs]
        for tensor in given:
            tensor.requires_grad_(tensor.is_floating_point())
        made = generate(network, tuple(given)).grad_fn
    while made is not None and any(word in type(made).__name__ for word in _MOVING):
        made = made.next_functions[0][0] if made.next_functions else None
    return "" if made is None else type(made).__name__.partition("Backward")[0]


def _image(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        return decoded(generate(network, inputs), network).float()


def _check_channels(values: Values, inputs: Sequence[Tensor]) -> None:
    count = max(len(values.input.mean), len(values.input.std))
    for tensor, picture in zip(inputs, values.pictures, strict=True):
        if picture and count not in (1, tensor.shape[1]):
            raise ValueError(
                f"net.mean and net.std have {count} numbers, the pictures {tensor.shape[1]} channels: give one for each"
            )
