"""From what a method made to everything that a run leaves behind: the same for every method."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ganshrink.data import Images
from ganshrink.graph import trace
from ganshrink.methods.base import Job, Nets, Result
from ganshrink.methods.distill import train_alone
from ganshrink.pruning import Plan, extract
from ganshrink.pruning.folding import folded_copy
from ganshrink.quant import QuantizationConfig
from ganshrink.quant.layers import still_there
from ganshrink.reports import write_report
from ganshrink.system.distributed import barrier, is_main_process
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.workflow import int8, outputs
from ganshrink.workflow.recipe import Recipe
from ganshrink.workflow.saved_networks import network_spec, save_network

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """One student that is to be made.

    Attributes:
        run: the folder that everything goes into.
        recipe: what is asked for, in one direction.
        job: what the method is given.
        held_out: images that networks are scored on.
        net: what builds the original generator again; none: it is the user's own.
    """

    run: Run
    recipe: Recipe
    job: Job
    held_out: Images
    net: dict[str, Any] | None


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder, the student and what was measured."""

    path: Path
    student: nn.Module
    plan: Plan
    cost: dict[str, Any]
    metrics: dict[str, Any]


def deliver(order: Order, result: Result) -> Outcome:
    """Train what the recipe asks for besides the method's student, then measure and write everything.

    Args:
        result: of the method, with one student, "G".
    """
    run, recipe, job = order.run, order.recipe, order.job
    networks = {"teacher": job.teacher()["G"], "student": result.students["G"]}
    if recipe.scratch:
        networks["scratch"] = _from_scratch(run, job, result)
    settings, quantized = recipe.quantization, networks["student"]
    if result.quantization is not None and (recipe.export.onnx or settings.mode != "none"):
        settings = settings.ready(result.quantization, settings.given())
    settings = settings.model_copy(update={"exclude": still_there(quantized, settings.exclude)})
    if settings.mode == "finetune":
        quantized, settings = int8.finetune(run, job, settings, quantized)
    timing = job.timing(result.originals["G"], result.channels["G"], result.plans["G"])  # by all processes
    if is_main_process():
        _leave(order, result, networks, settings, quantized, timing)
    barrier()
    cost, metrics = run.read("cost.json"), run.read("metrics.json")
    return Outcome(run.path, networks["student"], result.plans["G"], cost, metrics)


def _leave(
    order: Order,
    result: Result,
    networks: Nets,
    settings: QuantizationConfig,
    quantized: nn.Module,
    timing: dict[str, Any] | None,
) -> None:
    """Weights, costs, scores, pictures, exports, times and the report, in the run's folder."""
    run, recipe, job, held_out = order.run, order.recipe, order.job, order.held_out
    outputs.clear(run)
    channels, plan = result.channels["G"], result.plans["G"]
    plan_json = plan.to_json(channels, basis=result.basis)
    run.write("plan.json", plan_json)
    if "G" in result.hinges:
        run.write("hinges.json", result.hinges["G"])
    if result.search is not None:
        run.write("search.json", result.search)
    run.write("stages.json", run.stages())
    whole = network_spec(order.net, job.example, job.data)
    cut = whole.model_copy(
        update={"plan": plan_json, "affine": result.affine, "extra_blocks": result.extra_blocks}
    )
    for name, network in networks.items():
        save_network(run.path / f"{name}.safetensors", network.eval(), whole if name == "teacher" else cut)
    original = trace(folded_copy(networks["teacher"]), *job.example) if result.extra_blocks else channels
    outputs.write_cost(
        run, networks, channels, plan, job.budget, recipe.limits, original=original, timing=timing
    )
    if settings.mode == "none" and result.quantization is not None:
        int8.note_trained(run, result.quantization)
    if settings.mode != "none":
        networks |= int8.int8_beside(
            run, job, settings, quantized, held_out, trained=result.quantization, **_file_options(recipe)
        )
    split = recipe.metrics.split if recipe.data is not None else "held out: every tenth of the given samples"
    outputs.write_metrics(run, networks, held_out, recipe.metrics, split)
    outputs.write_samples(run, networks, held_out)
    if recipe.export.onnx:
        options = _file_options(recipe)
        outputs.write_onnx(run, networks["student"], job.example, held_out, **options)
    if recipe.latency.enabled:
        options = recipe.latency.model_dump(include={"threads", "seconds"})
        if job.stopwatch is not None:  # as plans were timed
            options["threads"] = job.stopwatch.profile.threads
        outputs.write_latency(run, networks, job.example, **options)
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
