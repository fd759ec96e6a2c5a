"""Another network than the teacher's, for the student: `student.net`, opened and tried before anything is trained."""

import torch
from torch import Tensor, nn

from ganshrink.data import Images
from ganshrink.methods import METHODS
from ganshrink.methods.original import Original
from ganshrink.nets import build
from ganshrink.nets.branches import branched
from ganshrink.pruning.untouched import random_numbers_kept
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.generator import batch_of_one, generate
from ganshrink.workflow.net_config import with_channels
from ganshrink.workflow.parts import settings_type
from ganshrink.workflow.preflight import check_repeatable, check_single
from ganshrink.workflow.recipe import Recipe
from ganshrink.workflow.values import built, values_for


def student_network(recipe: Recipe, images: Images, example: tuple[Tensor, ...]) -> Original | None:
    """The network that the student is cut out of, where that is not the teacher's.

    Args:
        example: inputs of the size at which costs count.

    Raises:
        ValueError: for a method or a start that needs the teacher's channels, or a network that does not take the data.
    """
    if recipe.student.net is None:
        return None
    if not recipe.method.student_net:
        able = [name for name in METHODS if getattr(settings_type("method", name)[1], "student_net", False)]
        raise ValueError(
            f"student.net is another network than the teacher's, and method {recipe.method.name} cuts the teacher's own "
            f"channels: leave student.net out, or set method.name to {' or '.join(map(repr, able))}"
        )
    if recipe.student.start not in (None, "fresh"):
        raise ValueError(
            f"student.start = {recipe.student.start!r} begins with the teacher's weights, which do not go into student.net: "
            "leave one of them out"
        )
    net = with_channels(recipe.student.net, images, table="student.net")
    with random_numbers_kept():
        values = values_for(net, build(net.name, **net.options), images, trained=False)
    made_of = {"name": net.name, **net.options}
    return Original(lambda: built(net, values), example, {}, recipe.method.exact, made_of)


def check_student_network(whole: Original, teacher: nn.Module, images: Images) -> None:
    """Refuse a network that does not make of the data's inputs what the teacher makes of them.

    Raises:
        ValueError: with both shapes, or what else is wrong with it.
    """
    inputs, name = batch_of_one(images.sample(0, None)["input"]), f"student.net, {whole.name},"
    try:
        check_single(whole.network)
        with torch.no_grad():
            made = generate(whole.network, inputs)
        check_repeatable(whole.network, inputs)
        branched(copied(whole.network))
    except Exception as error:  # whatever a network of the user's own raises
        shapes = " and ".join(str(tuple(tensor.shape[1:])) for tensor in inputs)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name} cannot take the data's inputs {shapes}: {reason}") from error
    with torch.no_grad():
        wanted = generate(in_evaluation(teacher), inputs)
    if made.shape != wanted.shape:
        raise ValueError(
            f"{name} makes images {tuple(made.shape[1:])}, the teacher's are {tuple(wanted.shape[1:])}: give it options, or "
            "take a network, that make the same"
        )
