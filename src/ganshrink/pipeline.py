"""From a recipe, or from a user's own module and data, to the folder of a finished run."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganshrink import nets, outcome
from ganshrink.atomic import write_text
from ganshrink.channels import Budget, Plan, extract, initialise, trace
from ganshrink.data import DataConfig, Images, TensorPairs, check, hold_out, input_spec, open_dataset
from ganshrink.engine import rank_and_world
from ganshrink.job import Job, Nets, Result, fit_nets
from ganshrink.methods import METHODS
from ganshrink.recipe import NetConfig, Recipe, dump, read_recipe, resolve
from ganshrink.reports import write_report
from ganshrink.run import Artefacts, Run, Stage, environment, tensors_hash
from ganshrink.tasks import TASKS
from ganshrink.teacher import trained_teacher
from ganshrink.weights import NetworkSpec, example_input, save_network

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
    """Everything a recipe asks for, in its run folder. The same call goes on where an earlier one was stopped."""
    images, held_out = _open_data(recipe)
    net = _with_channels(recipe.net, images)
    task = TASKS[recipe.task.name](recipe.task)
    run = Run(_folder(recipe), seed=recipe.seed)

    @cache
    def teacher() -> Nets:
        _note(run, recipe)
        return trained_teacher(run, net, recipe.teacher, task, images, progress=progress)

    def build() -> nn.Module:
        return nets.build(net.name, **net.options)

    example = (example_input(input_spec(images)),)
    job = Job(
        build, teacher, task, images, example, _budget(recipe, build(), example), recipe.student, progress
    )
    return _compress(run, recipe, job, held_out, {"name": net.name, **net.options})


def train(recipe: str | Path, *overrides: str, progress: bool = True) -> dict[str, Any]:
    """Train the generator of a recipe file, with `key=value` overrides: `train_recipe` on what it says."""
    return train_recipe(read_recipe(Path(recipe), overrides), progress=progress)


def train_recipe(recipe: Recipe, *, progress: bool = True) -> dict[str, Any]:
    """Train the generator of a recipe: the teacher stage of its run, and teacher.safetensors."""
    images, _ = _open_data(recipe)
    net = _with_channels(recipe.net, images)
    run = Run(_folder(recipe), seed=recipe.seed)
    _note(run, recipe)
    task = TASKS[recipe.task.name](recipe.task)
    generator = trained_teacher(run, net, recipe.teacher, task, images, progress=progress)["G"]
    path = run.path / "teacher.safetensors"
    spec = input_spec(images)
    example = list(example_input(spec).shape)
    save_network(
        path, generator, NetworkSpec(net={"name": net.name, **net.options}, example=[example], input=spec)
    )
    return {
        "run": str(run.path),
        "weights": str(path),
        "params": sum(p.numel() for p in generator.parameters()),
    }


def compress(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    data: Images | DataConfig | Mapping[str, Any] | Sequence[tuple[Tensor, Tensor]],
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
        model: the generator, of one input; it is not changed.
        example: an input (1, C, H, W) of the size at which costs count.
        data: pairs of (input, target) tensors, a data set, or its settings. Of pairs and data sets every tenth
            sample is kept out of training and scored.
        method: its name, or its options with a `name`.
        budget: what the student may cost, such as `macs=10%` or `macs=2.6G,params=0.4M`.
        task: its name, or its options with a `name`.
        run: the folder for everything that is made; the same call takes up an unfinished one.
        settings: further tables of a recipe, such as `student={"epochs": 20}` or `metrics={"names": ["psnr"]}`.

    Raises:
        ValueError: for anything that cannot work: an operator without a rule, an infeasible budget, bad settings.
    """
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    if len(inputs) != 1:
        raise ValueError(f"compress trains generators of one input tensor, the example has {len(inputs)}")
    inputs = (inputs[0].detach().cpu(),)
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
    images, held_out = _open_data(recipe) if recipe.data is not None else _held_out_of(data)
    given = copy.deepcopy(model).cpu()
    opened = Run(_folder(recipe), seed=recipe.seed)

    @cache
    def teacher() -> Nets:
        _note(opened, recipe)
        state = {name: tensor.clone() for name, tensor in given.state_dict().items()}
        stamp = {"net": repr(given), "weights": tensors_hash(state)}
        opened.stage("teacher", lambda stage: {"G": state}, made_from=stamp)
        return {"G": given.eval()}

    def build() -> nn.Module:
        return copy.deepcopy(given)

    budget_ = _budget(recipe, given, inputs)
    trained = TASKS[recipe.task.name](recipe.task)
    job = Job(build, teacher, trained, images, inputs, budget_, recipe.student, progress)
    return _compress(opened, recipe, job, held_out, None)


def _compress(run: Run, recipe: Recipe, job: Job, held_out: Images, net: dict[str, Any] | None) -> Outcome:
    """The method, then all that every method's run leaves behind."""
    if rank_and_world(job.training)[1] > 1:
        raise ValueError(
            "several processes are not supported yet: leave devices at 1 and start without torchrun"
        )
    outcome.check_ready(recipe, job.build(), held_out)
    result = METHODS[recipe.method.name](run, job, recipe.method)
    networks = {"teacher": job.teacher()["G"], "student": result.students["G"]}
    if recipe.scratch:
        networks["scratch"] = _from_scratch(run, job, result)
    outcome.clear(run)
    channels, plan = result.channels["G"], result.plans["G"]
    plan_json = plan.to_json(channels, basis=result.basis)
    run.write("plan.json", plan_json)
    whole = NetworkSpec(net=net, example=[list(x.shape) for x in job.example], input=input_spec(job.data))
    cut = whole.model_copy(update={"plan": plan_json, "affine": result.affine})
    for name, network in networks.items():
        save_network(run.path / f"{name}.safetensors", network.eval(), whole if name == "teacher" else cut)
    cost = outcome.write_cost(run, networks, channels, plan, job.budget, recipe.budget)
    split = recipe.metrics.split if recipe.data is not None else "held out: every tenth of the given samples"
    metrics = outcome.write_metrics(run, networks, held_out, recipe.metrics, split)
    outcome.write_samples(run, networks, held_out)
    if recipe.export.onnx:
        options = recipe.export.model_dump(include={"dynamic_size", "image_io"})
        outcome.write_onnx(run, networks["student"], job.example[0], held_out, **options)
    if recipe.latency.enabled:
        options = recipe.latency.model_dump(include={"threads", "seconds"})
        outcome.write_latency(run, networks, job.example[0], **options)
    write_report(run.path)
    return Outcome(run.path, networks["student"], plan, cost, metrics)


def _from_scratch(run: Run, job: Job, result: Result) -> nn.Module:
    """The student's architecture, trained on the task alone for as long: what the method has to beat."""
    network = extract(result.originals["G"], result.channels["G"], result.plans["G"])

    def learn(stage: Stage) -> Artefacts:
        logger.info("training the student's architecture from scratch")
        fresh = job.task.nets(initialise(network), job.data.in_channels, job.data.out_channels)
        fit_nets(stage, fresh, job.task, job.data, job.training, progress=job.progress)
        return {"G": fresh["G"].state_dict()}

    shape = {"plan": result.plans["G"].to_json(result.channels["G"])["layers"]}
    network.load_state_dict(run.stage("scratch", learn, made_from=shape | job.describe(), after=())["G"])
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
    return open_dataset(recipe.data, "train"), open_dataset(recipe.data, recipe.metrics.split)


def _held_out_of(data: Any) -> tuple[Images, Images]:
    images = data if isinstance(data, Images) else TensorPairs(data)
    problems = check(images)
    if problems:
        raise ValueError("; ".join(problems[:5]))
    return hold_out(images)


def _folder(recipe: Recipe) -> Path:
    if recipe.run is None:
        raise ValueError("the recipe names no folder: add run = 'runs/mine'")
    return recipe.run


def _note(run: Run, recipe: Recipe) -> None:
    """What is done here and where; written when the work begins, so that a refused command changes nothing."""
    write_text(run.path / "recipe.toml", dump(recipe))
    run.write("env.json", environment(recipe.seed))
