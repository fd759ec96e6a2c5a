"""From a recipe, or from a user's own module and data, to the folder of a finished run."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganshrink import nets, outcome
from ganshrink.atomic import write_text
from ganshrink.channels import Budget, Plan, extract, initialise
from ganshrink.data import DataConfig, Images, TensorPairs, check, hold_out, input_spec, open_dataset
from ganshrink.job import Job, Nets, Result, describe, fit_nets
from ganshrink.methods import METHODS
from ganshrink.recipe import NetConfig, Recipe, dump, read_recipe, resolve
from ganshrink.reports import write_report
from ganshrink.run import Artefacts, Run, Stage, environment, tensors_hash
from ganshrink.tasks import TASKS, Task
from ganshrink.weights import NetworkSpec, save_network

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
    run, images = _open_run(recipe), _training_images(recipe)
    assert recipe.data is not None
    held_out = open_dataset(recipe.data, recipe.metrics.split)
    net = _with_channels(recipe.net, images)
    task = TASKS[recipe.task.name](recipe.task)
    size = input_spec(images).size
    job = Job(
        build=lambda: nets.build(net.name, **net.options),
        teacher=cache(lambda: _teacher(run, recipe, net, task, images, progress)),
        task=task,
        data=images,
        example=(torch.zeros(1, images.in_channels, *size),),
        budget=Budget.parse(recipe.budget),
        training=recipe.student,
        progress=progress,
    )
    return _compress(run, recipe, job, held_out, {"name": net.name, **net.options})


def train(recipe: str | Path, *overrides: str, progress: bool = True) -> dict[str, Any]:
    """Train the generator of a recipe file, with `key=value` overrides: `train_recipe` on what it says."""
    return train_recipe(read_recipe(Path(recipe), overrides), progress=progress)


def train_recipe(recipe: Recipe, *, progress: bool = True) -> dict[str, Any]:
    """Train the generator of a recipe: the teacher stage of its run, and teacher.safetensors."""
    run, images = _open_run(recipe), _training_images(recipe)
    net = _with_channels(recipe.net, images)
    teacher = _teacher(run, recipe, net, TASKS[recipe.task.name](recipe.task), images, progress)
    path = run.path / "teacher.safetensors"
    size = input_spec(images).size
    spec = NetworkSpec(
        net={"name": net.name, **net.options},
        example=[[1, images.in_channels, *size]],
        input=input_spec(images),
    )
    save_network(path, teacher["G"], spec)
    return {
        "run": str(run.path),
        "weights": str(path),
        "parameters": sum(p.numel() for p in teacher["G"].parameters()),
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
        model: the generator; it is not changed.
        example: an input (1, C, H, W) of the size at which costs count.
        data: pairs of (input, target) tensors, a data set, or its settings. Of pairs and data sets every tenth sample is
            kept out of training and scored.
        method: its name, or its options with a `name`.
        budget: what the student may cost, such as `macs=10%` or `macs=2.6G,params=0.4M`.
        task: its name, or its options with a `name`.
        run: the folder for everything that is made; the same call takes up an unfinished one.
        settings: further tables of a recipe, such as `student={"epochs": 20}` or `metrics={"names": ["psnr"]}`.

    Raises:
        ValueError: for anything that cannot work: an operator without a rule, an infeasible budget, bad settings.
    """
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    raw = {
        "run": str(run),
        "budget": budget,
        "net": {"name": type(model).__name__},
        "method": {"name": method} if isinstance(method, str) else dict(method),
        "task": {"name": task} if isinstance(task, str) else dict(task),
        **settings,
    }
    images, held_out, described = _open_data(data, raw)
    recipe = resolve(raw | described, source="compress()")
    opened = _open_run(recipe)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    @cache
    def teacher() -> Nets:
        opened.stage("teacher", lambda stage: {"G": state}, made_from={"weights": tensors_hash(state)})
        return {"G": copy.deepcopy(model)}

    job = Job(
        build=lambda: initialise(copy.deepcopy(model)),
        teacher=teacher,
        task=TASKS[recipe.task.name](recipe.task),
        data=images,
        example=inputs,
        budget=Budget.parse(recipe.budget),
        training=recipe.student,
        progress=progress,
    )
    return _compress(opened, recipe, job, held_out, None)


def _compress(run: Run, recipe: Recipe, job: Job, held_out: Images, net: dict[str, Any] | None) -> Outcome:
    """The method, then all that every method's run leaves behind."""
    result = METHODS[recipe.method.name](run, job, recipe.method)
    teacher = job.teacher()["G"]
    networks = {"teacher": teacher, "student": result.students["G"]}
    if recipe.scratch:
        networks["scratch"] = _from_scratch(run, job, result)
    for network in networks.values():
        network.eval()
    channels, plan = result.channels["G"], result.plans["G"]
    plan_json = plan.to_json(channels, basis=result.basis)
    run.write("plan.json", plan_json)
    spec = NetworkSpec(net=net, example=[list(x.shape) for x in job.example], input=input_spec(job.data))
    cut = spec.model_copy(update={"plan": plan_json, "affine": result.affine})
    for name, network in networks.items():
        save_network(run.path / f"{name}.safetensors", network, spec if name == "teacher" else cut)
    budget = job.budget.resolve(channels)
    cost = outcome.write_cost(run, networks, channels, plan, budget, recipe.budget)
    metrics = outcome.write_metrics(run, networks, held_out, recipe.metrics)
    outcome.write_samples(run, networks, held_out)
    example = job.example[0]
    if recipe.export.onnx:
        outcome.write_onnx(
            run,
            networks["student"],
            example,
            held_out,
            dynamic_size=recipe.export.dynamic_size,
            image_io=recipe.export.image_io,
        )
    if recipe.latency.enabled:
        outcome.write_latency(
            run, networks, example, threads=recipe.latency.threads, seconds=recipe.latency.seconds
        )
    write_report(run.path)
    return Outcome(run.path, networks["student"], plan, cost, metrics)


def _from_scratch(run: Run, job: Job, result: Result) -> nn.Module:
    """The student's architecture, trained on the task alone for as long: what the method has to beat."""
    network = extract(result.originals["G"], result.channels["G"], result.plans["G"], init="fresh")

    def learn(stage: Stage) -> Artefacts:
        logger.info("training the student's architecture from scratch")
        fresh = job.task.nets(initialise(network), job.data.in_channels, job.data.out_channels)
        fit_nets(stage, fresh, job.task, job.data, job.training, progress=job.progress)
        return {"G": fresh["G"].state_dict()}

    network.load_state_dict(run.stage("scratch", learn, made_from=job.describe())["G"])
    return network


def _teacher(run: Run, recipe: Recipe, net: NetConfig, task: Task, images: Images, progress: bool) -> Nets:
    """The trained nets of the recipe: from the weights it names, or trained here."""
    teacher, config = nets.build(net.name, **net.options), recipe.teacher
    if config.weights:
        state = _read_weights(config.weights, teacher)
        run.stage("teacher", lambda stage: {"G": state}, made_from={"weights": tensors_hash(state)})
        teacher.load_state_dict(state)
        return {"G": teacher}

    def learn(stage: Stage) -> Artefacts:
        logger.info("training the teacher, %s", net.name)
        trained = task.nets(initialise(teacher), images.in_channels, images.out_channels)
        fit_nets(stage, trained, task, images, config, progress=progress)
        return {name: network.state_dict() for name, network in trained.items()}

    stamp = {"net": net.model_dump(), **describe(task, images, config)}
    weights = run.stage("teacher", learn, made_from=stamp)
    trained = task.nets(teacher, images.in_channels, images.out_channels)
    for name, network in trained.items():
        network.load_state_dict(weights[name])
    return trained


def _read_weights(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a safetensors file that fit a network."""
    if not path.is_file():
        raise FileNotFoundError(
            f"teacher.weights: there is no file {path}; leave it out to train the teacher here"
        )
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"teacher.weights: {path} is not a readable safetensors file: {error}") from None
    own = network.state_dict()
    for name in own.keys() | state.keys():
        if name not in state or name not in own:
            where = "the network" if name not in own else "the file"
            raise ValueError(
                f"teacher.weights: {path} does not fit: {where} has no {name!r}; check [net] and its options"
            )
        if own[name].shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the network"
            raise ValueError(
                f"teacher.weights: {path} does not fit: {name!r} is {shapes}; check [net] and its options"
            )
    return state


def _with_channels(net: NetConfig, images: Images) -> NetConfig:
    """The net with as many input and output channels as the images have, unless the recipe says otherwise."""
    known = nets.net_options(net.name)
    wanted = {"in_channels": images.in_channels, "out_channels": images.out_channels}
    given = {key: value for key, value in wanted.items() if key in known and key not in net.options}
    for key, value in wanted.items():
        if net.options.get(key, value) != value:
            raise ValueError(
                f"net.{key} = {net.options[key]}, but the data have {value}; leave net.{key} out"
            )
    return NetConfig(name=net.name, **net.options, **given)


def _open_data(data: Any, raw: Mapping[str, Any]) -> tuple[Images, Images, dict[str, Any]]:
    """Training images, held-out images, and the [data] table that describes them."""
    if isinstance(data, DataConfig | Mapping):
        config = data if isinstance(data, DataConfig) else DataConfig.model_validate(data)
        split = raw.get("metrics", {}).get("split", "test")
        return (
            open_dataset(config, "train"),
            open_dataset(config, split),
            {"data": config.model_dump(mode="json")},
        )
    images = data if isinstance(data, Images) else TensorPairs(data)
    problems = check(images)
    if problems:
        raise ValueError("; ".join(problems[:5]))
    return *hold_out(images), {}


def _training_images(recipe: Recipe) -> Images:
    if recipe.data is None:
        raise ValueError('the recipe has no [data]: add one, such as [data] with name = "facades-synthetic"')
    return open_dataset(recipe.data, "train")


def _open_run(recipe: Recipe) -> Run:
    assert recipe.run is not None
    run = Run(recipe.run, seed=recipe.seed)
    write_text(run.path / "recipe.toml", dump(recipe))
    run.write("env.json", environment(recipe.seed))
    return run
