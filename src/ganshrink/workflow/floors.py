"""What nobody has to learn: networks that are scored beside a student, which must be better than all of them."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ganshrink.data import Images
from ganshrink.data.passes import spread_inputs
from ganshrink.pruning import initialise
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.generator import generate
from ganshrink.system.spelling import one_line

logger = logging.getLogger(__name__)

AVERAGED = 32  # of the teacher's pictures, for the mean picture
FRESH = 0.9  # of the weights, that must be made anew before a network is called untrained


class Constant(nn.Module):
    """The same picture, whatever the input."""

    picture: Tensor

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.register_buffer("picture", picture)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.picture.expand(len(inputs[0]), *self.picture.shape)


def floors(networks: Mapping[str, nn.Module], images: Images) -> dict[str, nn.Module]:
    """By name: `identity`, the untouched input, where that is a picture like the outputs; `mean`, the mean of the teacher's
    pictures; `untrained`, the student's architecture with fresh weights. One that cannot be made is left out."""
    found: dict[str, nn.Module] = {}
    try:
        with torch.no_grad():
            if changes_pictures(networks["teacher"], images):
                found["identity"] = nn.Identity()
            found["mean"] = Constant(_mean_picture(in_evaluation(networks["teacher"]), images))
            if (untrained := _untrained(networks["student"])) is not None:
                found["untrained"] = untrained
    except Exception as error:  # whatever a network of the user's own raises: it is scored all the same
        logger.warning("what an untrained student scores is not known: %s", one_line(error))
    return found


def changes_pictures(network: nn.Module, images: Images) -> bool:
    """Whether inputs are pictures of the same shape as the outputs."""
    given = images.sample(0, None)["input"]
    if not isinstance(given, Tensor):
        return False
    with torch.no_grad():
        return generate(in_evaluation(network), given[None])[0].shape == given.shape


def _mean_picture(teacher: nn.Module, images: Images) -> Tensor:
    """(C, H, W)."""
    total, count = torch.zeros(()), 0
    for inputs in spread_inputs(images, AVERAGED):
        made = generate(teacher, inputs).clamp(-1, 1)
        total, count = total + made.sum(dim=0), count + len(made)
    return total / count


def _untrained(student: nn.Module) -> nn.Module | None:
    """The architecture with the weights that students start from; None where most of them are the module's own affair,
    which nothing here makes anew."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = initialise(copied(student))
    pairs = [(a, b) for a, b in zip(student.parameters(), fresh.parameters(), strict=True) if a.ndim > 1]
    new = sum(a.numel() for a, b in pairs if not torch.equal(a, b))
    return in_evaluation(fresh) if new >= FRESH * sum(a.numel() for a, _ in pairs) else None
