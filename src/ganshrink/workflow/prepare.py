"""One student to be made, with everything that its method needs, opened and tried: nothing is trained or written yet."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.data import Images, open_dataset
from ganshrink.data.images import offered_by
from ganshrink.data.overlap import warn_trained_on
from ganshrink.methods.base import Job, MethodConfig
from ganshrink.methods.original import Original
from ganshrink.quant.layers import check_excluded
from ganshrink.system.distributed import init_distributed, is_main_process
from ganshrink.system.generator import batch_of_one, generate
from ganshrink.training.stages import Run
from ganshrink.training.stamps import with_source
from ganshrink.training.tasks.steady import check_movable, steadied
from ganshrink.training.train import Nets
from ganshrink.workflow import outputs
from ganshrink.workflow.device_budget import resolve_budget
from ganshrink.workflow.preflight import check_repeatable, check_single, passed
from ganshrink.workflow.recipe import Recipe
from ganshrink.workflow.student_net import check_student_network
from ganshrink.workflow.validation import validation_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A student that is to be made.

    Attributes:
        run: the folder that everything goes into.
        recipe: what is asked for, in one direction.
        method: the method's settings, with what the budget's device decides filled in.
        job: what the method is given.
        held_out: images that networks are scored on.
    """

    run: Run
    recipe: Recipe
    method: MethodConfig
    job: Job
    held_out: Images


def prepare(
    run: Run,
    recipe: Recipe,
    *,
    build: Callable[[], nn.Module],
    teacher: Callable[[], Nets],
    images: Images,
    held_out: Images,
    unlabelled: Images | None,
    example: tuple[Tensor, ...],
    net: dict[str, Any] | None,
    student_net: Original | None,
    shared: Path,
    progress: bool,
) -> Prepared:
    """Try the generator, trace it and resolve the budget: once, for a recipe and for a call in Python alike.

    Args:
        build: makes the original generator, freshly initialised.
        net: what builds it again; none: it is the user's own.
        student_net: what the student is cut out of, where that is another network.
        shared: the folder where profiles of this machine are kept, and what passed before a training.

    Raises:
        ValueError: for what cannot work.
    """
    if getattr(recipe.task, "features", 0):
        raise ValueError(
            "task.features trains an encoder beside the generator, and students take that as it is: run `ganshrink train`, "
            "then compress with data.encoder and teacher.weights = its run, without task.features"
        )
    init_distributed()  # from here on a process that fails is missed at once
    if is_main_process():
        warn_trained_on(held_out, images, unlabelled, limit=recipe.metrics.limit)
        network = build()
        check_single(network)
        # nothing noted tells what the user's own network has in its attributes, nor the teacher of another student
        if net is None or student_net or not passed(shared, recipe, network, example, held_out):
            outputs.check_ready(recipe, network, held_out)
            check_repeatable(network, batch_of_one(held_out.sample(0, None)["input"]))
        if student_net is not None:
            check_student_network(student_net, network, held_out)
        check_excluded(student_net.network if student_net else network, recipe.quantization.exclude)
    original = Original(build, example, recipe.method.transforms(), recipe.method.exact, net)
    whole = student_net or original
    sample = images.sample(0, None)
    if recipe.student.lambda_shift:
        check_movable(whole.network, sample["input"])
    if "target" not in sample:  # inputs alone do not tell what the generator makes of them
        with torch.no_grad():
            images.out_channels = generate(original.network, batch_of_one(sample["input"])).shape[1]
    budget, method, device, stopwatch = resolve_budget(
        recipe, original, whole, folder=run.path, shared=shared
    )
    of_teacher: Any = {"teacher": lambda: teacher()["G"]}
    trained_on, validation = validation_of(recipe, images, recipe.student, **of_teacher)
    job = Job(
        original,
        teacher,
        steadied(recipe.new_task(), recipe.student.lambda_shift),
        trained_on,
        budget,
        recipe.student,
        progress,
        device=device,
        stopwatch=stopwatch,
        unlabelled=unlabelled,
        metrics=recipe.metrics,
        validation=validation,
        student_net=student_net,
    )
    return Prepared(run, recipe, method, job, held_out)


def open_data(recipe: Recipe) -> tuple[Images, Images]:
    """The training images of a recipe, and those that networks are scored on."""
    if recipe.data is None:
        raise ValueError('the recipe has no [data]: add one, such as [data] with name = "facades-synthetic"')
    images = with_source(open_dataset(recipe.data, "train"))
    check_suited(recipe, images)
    return images, open_dataset(recipe.data, recipe.metrics.split)


def check_suited(recipe: Recipe, images: Images) -> None:
    """Refuse data that lack what the task learns from: on unpaired images pix2pix would train, and learn nonsense."""
    lacking = recipe.task_type.needs - offered_by(images)
    if lacking:
        words = {
            "pairs": "a target image for each input",
            "target": "images of the target domain",
            "latents": "latent vectors as inputs (data.name = 'latents')",
        }
        raise ValueError(
            f"task {recipe.task.name} needs {words[min(lacking)]}, and these data have none: "
            "task = 'cyclegan' takes unpaired images, task = 'image2image' inputs alone"
        )
    _check_features(recipe)


def _check_features(recipe: Recipe) -> None:
    """Refuse an encoder that nothing trains, or that two things are."""
    wanted, data = getattr(recipe.task, "features", 0), recipe.data
    planes, encoder = (None, None) if data is None else (data.features, data.encoder)
    if wanted and (planes != wanted or encoder is not None):
        raise ValueError(
            f"task.features = {wanted} trains an encoder: set data.features = {wanted} too, and leave data.encoder out"
        )
    if planes and encoder is None and not wanted:
        raise ValueError(
            f"data.features = {planes} without data.encoder are zeros: name the run that trained one, or train it with "
            f"`ganshrink train` and task.features = {planes}"
        )
    if wanted and recipe.teacher.validate_every is not None:
        raise ValueError(
            "teacher.validate_every scores pictures without an encoder's features: leave it out with task.features"
        )
