"""From a recipe, or from a user's own module and data, to the folder of a finished run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.data import DataConfig, Images, input_spec, joined, open_dataset, open_unlabelled
from ganshrink.data.images import offered_by
from ganshrink.data.instance_features import FILE as ENCODER
from ganshrink.methods import DEFAULT
from ganshrink.methods.base import Job, Method, MethodConfig, Result
from ganshrink.metrics import Metric
from ganshrink.nets.instance_encoder import InstanceEncoder
from ganshrink.system.atomic import write_text
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.distributed import barrier, is_main_process
from ganshrink.system.generator import Input
from ganshrink.system.values import Values, converting
from ganshrink.training import check_launch
from ganshrink.training.environment import environment
from ganshrink.training.stages import Run
from ganshrink.training.stamps import stamp, stamp_if_own, with_source
from ganshrink.training.tasks import Task, Term
from ganshrink.training.train import Nets
from ganshrink.training.trial import Trial
from ganshrink.workflow import outputs
from ganshrink.workflow.device_budget import step_of, with_finer_steps
from ganshrink.workflow.finish import FinishedRun, finish
from ganshrink.workflow.instance_features import save_encoder
from ganshrink.workflow.measured_devices import FILE as DEVICES
from ganshrink.workflow.net_config import NetConfig, with_channels
from ganshrink.workflow.output_stages import forget
from ganshrink.workflow.preflight import preflight
from ganshrink.workflow.prepare import Prepared, check_suited, open_data, prepare
from ganshrink.workflow.python_inputs import example_of, in_single, open_beside, open_given
from ganshrink.workflow.recipe import Recipe, dump, read_recipe, resolve
from ganshrink.workflow.saved_networks import NetworkSpec, example_input, save_network
from ganshrink.workflow.student_net import student_network
from ganshrink.workflow.teacher import recipe_values, trained_teacher
from ganshrink.workflow.validation import validation_of
from ganshrink.workflow.values import built, values_for

logger = logging.getLogger(__name__)


def compress_recipe(
    recipe: Recipe,
    *,
    retrain: bool = False,
    retime: bool = False,
    progress: bool = True,
    trial: Trial | None = None,
) -> FinishedRun:
    """Everything a recipe asks for, in its run folder. The same call goes on where an earlier one was stopped.

    With data.direction = "both" each direction gets a folder of its own inside, and the first one's run is returned.

    Args:
        retrain: make the stages of an earlier version again, which are put aside.
        retime: time teacher and student again, though nothing changed.
        trial: cuts trainings short and notes what they would take.

    Raises:
        ValueError: if the folder is an earlier version's, without `retrain`; or for anything that cannot work.
    """
    run = _open_run(recipe, retrain=retrain, trial=trial)
    _check_ways(recipe)
    for one_way in recipe.ways() if retime and is_main_process() else ():
        forget(_folder(one_way), "latency.json")
    prepared = [_prepare(run, one_way, recipe, progress=progress) for one_way in recipe.ways()]
    if len(prepared) > 1 and recipe.method.both_ways:
        return _both_at_once(run, *prepared)
    return [_carry_out(one) for one in prepared][0]


def _carry_out(prepared: Prepared) -> FinishedRun:
    """The method, then all that every method's run leaves behind."""
    result = _made(prepared.run, prepared.job, prepared.method, prepared)
    return finish(prepared, result, next(iter(result.students)))


def _made(run: Run, job: Job, config: MethodConfig, *prepared: Prepared) -> Result:
    """What the method makes."""
    method, begun = (
        prepared[0].recipe.method_function,
        ("teacher", *(stage["name"] for stage in run.stages())),
    )

    def make(settings: MethodConfig) -> Result:
        run.forget_all_but(begun)  # of settings that led nowhere
        return method(run.made_by(stamp_if_own(method)), job, settings)

    return with_finer_steps([one.recipe.method for one in prepared], config, make)


def _both_at_once(run: Run, there: Prepared, back: Prepared) -> FinishedRun:
    """A method that makes both students in one training, in the run of both; then for each what every run leaves."""
    config = there.method
    if back.method != config:  # they differ in their steps of width: the finer one is for both
        config = min(config, back.method, key=step_of)
    result = _made(run, replace(there.job, back=back.job), config, there, back)
    finished = []
    for prepared, name in zip((there, back), result.students, strict=True):
        prepared.run.follow(run)
        finished.append(finish(prepared, result, name))
    return finished[0]


def _prepare(run: Run, recipe: Recipe, whole: Recipe, *, progress: bool) -> Prepared:
    """One direction of a recipe, its data opened."""
    images, held_out = open_data(recipe)
    net = with_channels(recipe.net, images)
    values = recipe_values(net, recipe.teacher, images)
    task = recipe.new_task()
    part = run if recipe is whole else run.part(recipe.direction)
    example = (example_input(input_spec(images)),)
    student_net = student_network(recipe, images, example)

    def new() -> nn.Module:
        return built(net, values)

    def begin() -> None:
        if is_main_process():
            preflight(run, recipe, student_net.build() if student_net else new(), example, held_out)
        _note(run, whole)

    @cache
    def teacher() -> Nets:
        made = _teacher(run, net, values, recipe, task, images, begin=begin, progress=progress)
        if part is not run:
            part.follow(run)
            _note(part, recipe)
        return made

    return prepare(
        part,
        recipe,
        build=new,
        teacher=teacher,
        images=images,
        held_out=held_out,
        unlabelled=_open_unlabelled(recipe, images),
        example=example,
        net={"name": net.name, **net.options},
        student_net=student_net,
        shared=run.path,
        progress=progress,
    )


def _check_ways(recipe: Recipe) -> None:
    """Refuse to go both ways with what goes one."""
    if recipe.data is None or recipe.data.direction != "both":
        return
    if not recipe.task_type.both_ways:
        raise ValueError(
            f"data.direction = 'both' needs a task that goes both ways, {recipe.task.name} does not"
        )
    if recipe.teacher.weights is not None:
        raise ValueError("teacher.weights goes one way: compress each data.direction in a run of its own")


def _teacher(
    run: Run,
    net: NetConfig,
    values: Values | None,
    recipe: Recipe,
    task: Task,
    images: Images,
    *,
    begin: Callable[[], None],
    progress: bool,
) -> Nets:
    """The recipe's teacher. A task that goes both ways has one teacher, whichever direction is compressed."""
    if task.both_ways and recipe.data is not None and recipe.teacher.weights is None:
        images = with_source(open_dataset(recipe.data.model_copy(update={"direction": "AtoB"}), "train"))
    validation = None
    if recipe.teacher.weights is None:
        images, validation = validation_of(recipe, images, recipe.teacher, direction=recipe.direction)
    return trained_teacher(
        run,
        net,
        recipe.teacher,
        task,
        images,
        values=values,
        direction=recipe.direction,
        validation=validation,
        begin=begin,
        progress=progress,
    )


def train(
    recipe: str | Path, *overrides: str, retrain: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Train the generator of a recipe file, with `key=value` overrides: `train_recipe` on what it says."""
    return train_recipe(read_recipe(recipe, overrides), retrain=retrain, progress=progress)


def train_recipe(recipe: Recipe, *, retrain: bool = False, progress: bool = True) -> dict[str, Any]:
    """Train the generator of a recipe: the teacher stage of its run, and teacher.safetensors; `retrain` as above."""
    images, _ = open_data(recipe)
    net = with_channels(recipe.net, images)
    run = _open_run(recipe, retrain=retrain)
    task = recipe.new_task()

    def begin() -> None:
        if not (run.path / "student.safetensors").is_file():  # else the recipe there is that of the student
            _note(run, recipe)

    values = recipe_values(net, recipe.teacher, images)
    trained = _teacher(run, net, values, recipe, task, images, begin=begin, progress=progress)
    generator, encoder = trained["G"], trained.get("E")
    path = run.path / "teacher.safetensors"
    spec = input_spec(images)
    example = list(example_input(spec).shape)
    if is_main_process():
        whole = NetworkSpec(
            net={"name": net.name, **net.options}, example=[example], input=spec, values=values
        )
        save_network(path, generator, whole)
        if isinstance(encoder, InstanceEncoder):
            save_encoder(run.path / ENCODER, encoder, images)
    barrier()
    return {
        "run": str(run.path),
        "weights": str(path),
        "params": sum(p.numel() for p in generator.parameters()),
    }


@torch.inference_mode(False)  # also where the caller has turned gradients off
@torch.enable_grad()
def compress(
    model: nn.Module,
    example: Tensor | Sequence[Tensor] | None = None,
    data: Images | DataConfig | Mapping[str, Any] | Sequence[Input] | Sequence[tuple[Input, Tensor]] = (),
    method: str | Mapping[str, Any] | Method = DEFAULT,
    budget: str = "macs=10%",
    task: str | Mapping[str, Any] | Task | type[Task] = "pix2pix",
    *,
    extra_losses: Sequence[Term] = (),
    metrics: Mapping[str, Any] | Sequence[str | Metric] | None = None,
    unlabelled: Images | Sequence[Input] | None = None,
    run: str | Path = "runs/compress",
    retrain: bool = False,
    progress: bool = True,
    **settings: Any,
) -> FinishedRun:
    """Make a trained generator of your own small.

    Args:
        model: the generator; it is not changed. One in half or double precision is taken in float32.
        example: an input (1, C, H, W) of the size at which costs count, or a tuple of them for a generator of several, in
            the order of its arguments; none: the first sample of the data.
        data: pairs of (input, target) tensors, or inputs alone for task image2image, where an input is one tensor
            (C, H, W) or a tuple of several, each without a batch axis; or a data set, or its settings. All but settings
            have every tenth sample kept out of training and scored.
        method: its name, or a method function of your own, or options with one of these as `name`.
        budget: what the student may cost, such as `macs=10%` or `macs=2.6G,params=0.4M`.
        task: its name, or a class or object of your own, or options with a name or class as `name`.
        extra_losses: functions of a step's context that give named, weighted losses, which join the generator's wherever
            the method trains one on the task's losses; `context.fake` is its image, `context.batch` the data.
        metrics: names, metrics of your own, or both; or the whole table of a recipe.
        unlabelled: inputs beside pairs, like theirs but without targets, for methods that learn from such; or a data set of
            them. The others train on the pairs alone.
        run: the folder for everything that is made; the same call takes up an unfinished one.
        retrain: make the stages again that an earlier version made in that folder; they are put aside.
        settings: further tables of a recipe, such as `student={"epochs": 20}`, or `net={"range": (0, 1)}` for a generator
            whose black is 0 and white is 1.

    Raises:
        ValueError: for anything that cannot work: an operator without a rule, an infeasible budget, bad settings.
    """
    raw = {
        "run": str(run),
        "budget": budget,
        "net": {"name": type(model).__name__, **(settings.pop("net", None) or {})},
        "method": method,
        "task": task,
        **settings,
    }
    if metrics is not None:
        raw["metrics"] = metrics if isinstance(metrics, Mapping) else {"names": tuple(metrics)}
    if isinstance(data, DataConfig | Mapping):
        raw["data"] = data.model_dump(mode="json") if isinstance(data, DataConfig) else data
    recipe = resolve(raw, source="compress()", terms=extra_losses)
    if recipe.data is not None and recipe.data.direction == "both":
        raise ValueError(
            "data.direction = 'both' is for recipes: compress each direction in a run of its own"
        )
    given, example = in_single(copied(model).cpu(), example)
    if recipe.data is not None:
        images, held_out = open_data(recipe)
    else:
        images, held_out = open_given(data, recipe, example)
    check_suited(recipe, images)
    beside = _open_unlabelled(recipe, images, unlabelled)
    inputs = example_of(example, images, recipe)
    given = converting(given, values_for(recipe.net, given, images, trained=True))
    student_net = student_network(recipe, images, inputs)
    opened = _open_run(recipe, retrain=retrain)

    @cache
    def teacher() -> Nets:
        if is_main_process():
            preflight(opened, recipe, student_net.build() if student_net else given, inputs, held_out)
        _note(opened, recipe)
        state = {name: tensor.clone() for name, tensor in given.state_dict().items()}
        opened.stage("teacher", lambda stage: {"G": state}, made_from={"net": stamp(given)})
        return {"G": in_evaluation(given)}

    return _carry_out(
        prepare(
            opened,
            recipe,
            build=lambda: copied(given),
            teacher=teacher,
            images=images,
            held_out=held_out,
            unlabelled=beside,
            example=inputs,
            net=None,
            student_net=student_net,
            shared=opened.path,
            progress=progress,
        )
    )


def original_of(recipe: Recipe) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """What plans of a recipe cut, its generator or the student's own network, with fresh weights, and an input of the size
    at which costs count."""
    images, _ = open_data(recipe)
    example = (example_input(input_spec(images)),)
    if (whole := student_network(recipe, images, example)) is not None:
        return whole.build(), example
    net = with_channels(recipe.net, images)
    values = recipe_values(net, recipe.teacher, images)
    return built(net, values), example


def _open_unlabelled(recipe: Recipe, images: Images, given: Any = None) -> Images | None:
    """The inputs without targets of a job: those that its data settings leave or name, then those given in Python."""
    if given is not None and "pairs" not in offered_by(images):
        raise ValueError(
            "unlabelled inputs stand beside pairs, and these data are none: leave unlabelled out"
        )
    found = joined(
        None if recipe.data is None else open_unlabelled(recipe.data),
        None if given is None else open_beside(given, images),
    )
    if found is not None:
        logger.info("%d training pairs, and %d inputs without targets", len(images), len(found))
    return found


def _folder(recipe: Recipe) -> Path:
    if recipe.run is None:
        raise ValueError("the recipe names no folder: add run = 'runs/mine'")
    return recipe.run


def _open_run(recipe: Recipe, *, retrain: bool, trial: Trial | None = None) -> Run:
    for training in (recipe.teacher, recipe.student):
        check_launch(training)
    run = Run(_folder(recipe), seed=recipe.seed, trial=trial)
    if not retrain:
        run.check_format()
    return run


def _note(run: Run, recipe: Recipe) -> None:
    """What is done here and where; written when the work begins, so that a refused command changes nothing.

    What another recipe left is removed: until this one's is there, no verb must take it for this one's.
    """
    if is_main_process():
        file, text = run.path / "recipe.toml", dump(recipe)
        changed = file.is_file() and file.read_text(encoding="utf-8") != text
        if changed and (run.path / "student.safetensors").is_file():
            logger.warning(
                "the recipe changed: what it decides of student, scores and files in %s is made again",
                run.path,
            )
        if changed:
            outputs.clear(run)
            (run.path / DEVICES).unlink(missing_ok=True)
        write_text(file, text)
    run.write("env.json", environment(recipe.seed))
