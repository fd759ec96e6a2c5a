"""From a recipe, or from a user's own module and data, to the folder of a finished run."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganshrink import nets, outcome, quantization
from ganshrink.atomic import write_text
from ganshrink.channels import Budget, Plan, extract, trace
from ganshrink.data import DataConfig, Images, input_spec, open_dataset
from ganshrink.engine import check_launch, join, leads, wait
from ganshrink.generator import Input
from ganshrink.given import example_of, open_given
from ganshrink.job import Job, Nets, Result
from ganshrink.methods import METHODS
from ganshrink.quant import QuantizationConfig
from ganshrink.quant.layers import still_there
from ganshrink.recipe import NetConfig, Recipe, dump, read_recipe, resolve
from ganshrink.reports import write_report
from ganshrink.run import Artefacts, Run, Stage, environment, tensors_hash
from ganshrink.students import train_alone
from ganshrink.tasks import TASKS, Direction, Task
from ganshrink.teacher import trained_teacher
from ganshrink.weights import NetworkSpec, example_input, network_spec, save_network

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder, the student and what was measured."""

    path: Path
    student: nn.Module
    plan: Plan
    cost: dict[str, Any]
    metrics: dict[str, Any]


def compress_recipe(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Everything a recipe asks for, in its run folder. The same call goes on where an earlier one was stopped.

    With data.direction = "both" each direction gets a folder of its own inside, and the first one's outcome is returned.
    """
    run = _open_run(recipe)
    outcomes = [_compress_one_way(run, one_way, recipe, progress=progress) for one_way in _directions(recipe)]
    return outcomes[0]


def _compress_one_way(run: Run, recipe: Recipe, whole: Recipe, *, progress: bool) -> Outcome:
    images, held_out = _open_data(recipe)
    net = _with_channels(recipe.net, images)
    task = TASKS[recipe.task.name](recipe.task)
    part = run if recipe is whole else run.part(_direction(recipe))

    @cache
    def teacher() -> Nets:
        made = _teacher(run, net, recipe, task, images, begin=lambda: _note(run, whole), progress=progress)
        if part is not run:
            part.follow(run)
            _note(part, recipe)
        return made

    def build() -> nn.Module:
        return nets.build(net.name, **net.options)

    example = (example_input(input_spec(images)),)
    _check_ready(recipe, build(), held_out)
    job = Job(
        build, teacher, task, images, example, _budget(recipe, build(), example), recipe.student, progress
    )
    return _compress(part, recipe, job, held_out, {"name": net.name, **net.options})


def _directions(recipe: Recipe) -> list[Recipe]:
    """The recipe, or one for each direction where both are asked for."""
    if recipe.data is None or recipe.data.direction != "both":
        return [recipe]
    if not TASKS[recipe.task.name].both_ways:
        raise ValueError(
            f"data.direction = 'both' needs a task that goes both ways, {recipe.task.name} does not"
        )
    if recipe.teacher.weights is not None:
        raise ValueError("teacher.weights goes one way: compress each data.direction in a run of its own")
    ways = ("AtoB", "BtoA")
    return [
        recipe.model_copy(update={"data": _towards(recipe.data, way), "run": _folder(recipe) / way})
        for way in ways
    ]


def _towards(data: DataConfig, direction: str) -> DataConfig:
    return data.model_copy(update={"direction": direction})


def _direction(recipe: Recipe) -> Direction:
    return "BtoA" if recipe.data is not None and recipe.data.direction == "BtoA" else "AtoB"


def _teacher(
    run: Run,
    net: NetConfig,
    recipe: Recipe,
    task: Task,
    images: Images,
    *,
    begin: Callable[[], None],
    progress: bool,
) -> Nets:
    """The recipe's teacher. A task that goes both ways has one teacher, whichever direction is compressed."""
    direction = _direction(recipe)
    if task.both_ways and recipe.data is not None and recipe.teacher.weights is None:
        images = open_dataset(_towards(recipe.data, "AtoB"), "train")
    return trained_teacher(
        run, net, recipe.teacher, task, images, direction=direction, begin=begin, progress=progress
    )


def train(recipe: str | Path, *overrides: str, progress: bool = True) -> dict[str, Any]:
    """Train the generator of a recipe file, with `key=value` overrides: `train_recipe` on what it says."""
    return train_recipe(read_recipe(Path(recipe), overrides), progress=progress)


def train_recipe(recipe: Recipe, *, progress: bool = True) -> dict[str, Any]:
    """Train the generator of a recipe: the teacher stage of its run, and teacher.safetensors."""
    images, _ = _open_data(recipe)
    net = _with_channels(recipe.net, images)
    run = _open_run(recipe)
    task = TASKS[recipe.task.name](recipe.task)

    def begin() -> None:
        if not (run.path / "student.safetensors").is_file():  # else the recipe there is that of the student
            _note(run, recipe)

    generator = _teacher(run, net, recipe, task, images, begin=begin, progress=progress)["G"]
    path = run.path / "teacher.safetensors"
    spec = input_spec(images)
    example = list(example_input(spec).shape)
    if leads():
        whole = NetworkSpec(net={"name": net.name, **net.options}, example=[example], input=spec)
        save_network(path, generator, whole)
    wait()
    return {
        "run": str(run.path),
        "weights": str(path),
        "params": sum(p.numel() for p in generator.parameters()),
    }


def compress(
    model: nn.Module,
    example: Tensor | Sequence[Tensor] | None = None,
    data: Images | DataConfig | Mapping[str, Any] | Sequence[Input] | Sequence[tuple[Input, Tensor]] = (),
    method: str | Mapping[str, Any] = "cat",
    budget: str = "macs=10%",
    task: str | Mapping[str, Any] = "pix2pix",
    *,
    run: str | Path = "runs/compress",
    progress: bool = True,
    **settings: Any,
) -> Outcome:
    """Make a trained generator of your own small.

    Args:
        model: the generator; it is not changed.
        example: an input (1, C, H, W) of the size at which costs count, or a tuple of them for a generator of several, in
            the order of its arguments; none: the first sample of the data.
        data: pairs of (input, target) tensors, or inputs alone for task image2image, where an input is one tensor
            (C, H, W) or a tuple of several, each without a batch axis; or a data set, or its settings. All but settings
            have every tenth sample kept out of training and scored.
        method: its name, or its options with a `name`.
        budget: what the student may cost, such as `macs=10%` or `macs=2.6G,params=0.4M`.
        task: its name, or its options with a `name`.
        run: the folder for everything that is made; the same call takes up an unfinished one.
        settings: further tables of a recipe, such as `student={"epochs": 20}` or `metrics={"names": ["psnr"]}`.

    Raises:
        ValueError: for anything that cannot work: an operator without a rule, an infeasible budget, bad settings.
    """
    raw = {
        "run": str(run),
        "budget": budget,
        "net": type(model).__name__,
        "method": method,
        "task": task,
        **settings,
    }
    if isinstance(data, DataConfig | Mapping):
        raw["data"] = data.model_dump(mode="json") if isinstance(data, DataConfig) else data
    recipe = resolve(raw, source="compress()")
    if recipe.data is not None and recipe.data.direction == "both":
        raise ValueError(
            "data.direction = 'both' is for recipes: compress each direction in a run of its own"
        )
    if recipe.data is not None:
        images, held_out = _open_data(recipe)
    else:
        images, held_out = open_given(data, recipe.task.name, example)
    _check_suited(recipe, images)
    inputs = example_of(example, images, recipe.task.name)
    given = copy.deepcopy(model).cpu()
    opened = _open_run(recipe)

    @cache
    def teacher() -> Nets:
        _note(opened, recipe)
        state = {name: tensor.clone() for name, tensor in given.state_dict().items()}
        stamp = {"net": repr(given), "weights": tensors_hash(state)}
        opened.stage("teacher", lambda stage: {"G": state}, made_from=stamp)
        return {"G": given.eval()}

    def build() -> nn.Module:
        return copy.deepcopy(given)

    _check_ready(recipe, build(), held_out)
    budget_ = _budget(recipe, given, inputs)
    trained = TASKS[recipe.task.name](recipe.task)
    job = Job(build, teacher, trained, images, inputs, budget_, recipe.student, progress)
    return _compress(opened, recipe, job, held_out, None)


def _compress(run: Run, recipe: Recipe, job: Job, held_out: Images, net: dict[str, Any] | None) -> Outcome:
    """The method, then all that every method's run leaves behind."""
    result = METHODS[recipe.method.name](run, job, recipe.method)
    networks = {"teacher": job.teacher()["G"], "student": result.students["G"]}
    if recipe.scratch:
        networks["scratch"] = _from_scratch(run, job, result)
    settings, quantized = recipe.quantization, networks["student"]
    if result.quantization is not None and (recipe.export.onnx or settings.mode != "none"):
        settings = settings.ready(result.quantization, settings.given())
    settings = settings.model_copy(update={"exclude": still_there(quantized, settings.exclude)})
    if settings.mode == "finetune":
        quantized, settings = quantization.finetune(run, job, settings, quantized)
    if leads():
        _leave(run, recipe, job, result, networks, held_out, net, settings, quantized)
    wait()
    cost, metrics = run.read("cost.json"), run.read("metrics.json")
    return Outcome(run.path, networks["student"], result.plans["G"], cost, metrics)


def _leave(
    run: Run,
    recipe: Recipe,
    job: Job,
    result: Result,
    networks: Nets,
    held_out: Images,
    net: dict[str, Any] | None,
    settings: QuantizationConfig,
    quantized: nn.Module,
) -> None:
    """Weights, costs, scores, pictures, exports, times and the report, in the run's folder."""
    outcome.clear(run)
    channels, plan = result.channels["G"], result.plans["G"]
    plan_json = plan.to_json(channels, basis=result.basis)
    run.write("plan.json", plan_json)
    run.write("stages.json", run.stages())
    whole = network_spec(net, job.example, job.data)
    cut = whole.model_copy(update={"plan": plan_json, "affine": result.affine})
    for name, network in networks.items():
        save_network(run.path / f"{name}.safetensors", network.eval(), whole if name == "teacher" else cut)
    outcome.write_cost(run, networks, channels, plan, job.budget, recipe.budget)
    if settings.mode == "none" and result.quantization is not None:
        quantization.note_trained(run, result.quantization)
    if settings.mode != "none":
        networks |= quantization.int8_beside(
            run, job, settings, quantized, held_out, trained=result.quantization, **_file_options(recipe)
        )
    split = recipe.metrics.split if recipe.data is not None else "held out: every tenth of the given samples"
    outcome.write_metrics(run, networks, held_out, recipe.metrics, split)
    outcome.write_samples(run, networks, held_out)
    if recipe.export.onnx:
        options = _file_options(recipe)
        outcome.write_onnx(run, networks["student"], job.example, held_out, **options)
    if recipe.latency.enabled:
        options = recipe.latency.model_dump(include={"threads", "seconds"})
        outcome.write_latency(run, networks, job.example, **options)
    write_report(run.path)


def _file_options(recipe: Recipe) -> dict[str, Any]:
    return recipe.export.model_dump(include={"dynamic_size", "image_io"})


def _from_scratch(run: Run, job: Job, result: Result) -> nn.Module:
    """The student's architecture, trained on the task alone for as long: what the method has to beat."""
    network = extract(result.originals["G"], result.channels["G"], result.plans["G"])

    def learn(stage: Stage) -> Artefacts:
        logger.info("training the student's architecture from scratch")
        return train_alone(stage, job, network)

    shape = {"plan": result.plans["G"].to_json(result.channels["G"])["layers"]}
    after = ("teacher",) if job.task.needs_teacher else ()
    network.load_state_dict(run.stage("scratch", learn, made_from=shape | job.describe(), after=after)["G"])
    return network


def _budget(recipe: Recipe, original: nn.Module, example: tuple[Tensor, ...]) -> Budget:
    """The recipe's budget in absolute numbers, percentages taken of the original generator."""
    return Budget.parse(recipe.budget).resolve(trace(original, *example))


def _with_channels(net: NetConfig, images: Images) -> NetConfig:
    """The net with as many input and output channels as the images have, unless the recipe says otherwise."""
    known = nets.net_options(net.name)
    wanted = {"in_channels": images.in_channels, "out_channels": images.out_channels}
    for key, value in wanted.items():
        if net.options.get(key, value) != value:
            raise ValueError(
                f"net.{key} = {net.options[key]}, but the data have {value}; leave net.{key} out"
            )
    given = {key: value for key, value in wanted.items() if key in known}
    return NetConfig(name=net.name, **{**net.options, **given})


def _open_data(recipe: Recipe) -> tuple[Images, Images]:
    """The training images of a recipe, and those that networks are scored on."""
    if recipe.data is None:
        raise ValueError('the recipe has no [data]: add one, such as [data] with name = "facades-synthetic"')
    images = open_dataset(recipe.data, "train")
    _check_suited(recipe, images)
    return images, open_dataset(recipe.data, recipe.metrics.split)


def _check_suited(recipe: Recipe, images: Images) -> None:
    """Refuse data that lack what the task learns from: on unpaired images pix2pix would train, and learn nonsense."""
    lacking = TASKS[recipe.task.name].needs - outcome.offered_by(images)
    if lacking:
        words = {"pairs": "a target image for each input", "target": "images of the target domain"}
        raise ValueError(
            f"task {recipe.task.name} needs {words[min(lacking)]}, and these data have none: "
            "task = 'cyclegan' takes unpaired images, task = 'image2image' inputs alone"
        )


def _check_ready(recipe: Recipe, original: nn.Module, held_out: Images) -> None:
    """Try the generator before anything else is done with it."""
    join()  # from here on a process that fails is missed at once
    if leads():
        outcome.check_ready(recipe, original, held_out)


def _folder(recipe: Recipe) -> Path:
    if recipe.run is None:
        raise ValueError("the recipe names no folder: add run = 'runs/mine'")
    return recipe.run


def _open_run(recipe: Recipe) -> Run:
    for training in (recipe.teacher, recipe.student):
        check_launch(training)
    return Run(_folder(recipe), seed=recipe.seed)


def _note(run: Run, recipe: Recipe) -> None:
    """What is done here and where; written when the work begins, so that a refused command changes nothing.

    What another recipe left is removed: until this one's is there, no verb must take it for this one's.
    """
    if leads():
        file, text = run.path / "recipe.toml", dump(recipe)
        changed = file.is_file() and file.read_text(encoding="utf-8") != text
        if changed and (run.path / "student.safetensors").is_file():
            logger.warning(
                "the recipe changed: the earlier student, report and scores in %s are removed", run.path
            )
        if changed:
            outcome.clear(run)
        write_text(file, text)
    run.write("env.json", environment(recipe.seed))
