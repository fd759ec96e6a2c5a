"""From what a method made to everything that a run leaves behind: the same for every method."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ganshrink.data.splits import split_said
from ganshrink.methods.base import Job, Result
from ganshrink.methods.distill import train_alone
from ganshrink.pruning import Plan, extract
from ganshrink.quant import QuantizationConfig
from ganshrink.quant.layers import still_there
from ganshrink.reports import write_report
from ganshrink.reports.page import VERDICT
from ganshrink.system.copies import in_evaluation
from ganshrink.system.distributed import barrier, is_main_process
from ganshrink.system.values import raw, values_of
from ganshrink.training.stages import Run
from ganshrink.training.train import Nets, length_of
from ganshrink.workflow import int8, outputs
from ganshrink.workflow.missing import losing, missing
from ganshrink.workflow.prepare import Prepared
from ganshrink.workflow.saved_networks import network_spec, save_network
from ganshrink.workflow.scoring import write_metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its folder, the student, which takes and gives what the original does, what was measured, what to
    think of it, and which files could not be made, with the reasons."""

    path: Path
    student: nn.Module
    plan: Plan
    cost: dict[str, Any]
    metrics: dict[str, Any]
    verdict: dict[str, Any]
    missing: dict[str, str] = field(default_factory=dict)


def finish(prepared: Prepared, result: Result, name: str) -> FinishedRun:
    """Train what the recipe asks for besides the method's student, then measure and write everything.

    Args:
        name: of the student, among those of the result.
    """
    run, recipe, job = prepared.run, prepared.recipe, prepared.job
    networks = {"teacher": job.teacher()["G"], "student": result.students[name]}
    if recipe.scratch:
        networks["scratch"] = _from_scratch(run, job, result, name)
    settings, quantized = recipe.quantization, networks["student"]
    if result.quantization is not None and (recipe.export.onnx or settings.mode != "none"):
        settings = settings.ready(result.quantization, settings.given())
    settings = settings.model_copy(update={"exclude": still_there(quantized, settings.exclude)})
    if settings.mode == "finetune":
        quantized, settings = int8.finetune(run, job, settings, quantized)
    timing = job.timing(result.originals[name], result.channels[name], result.plans[name])  # by all processes
    if is_main_process():
        _leave(prepared, result, name, networks, settings, quantized, timing)
    barrier()
    cost, lost = run.read("cost.json"), missing(run.path)
    metrics = run.read("metrics.json") if (run.path / "metrics.json").is_file() else {}
    student = raw(networks["student"])
    return FinishedRun(run.path, student, result.plans[name], cost, metrics, run.read(VERDICT), lost)


def _leave(
    prepared: Prepared,
    result: Result,
    name: str,
    networks: Nets,
    settings: QuantizationConfig,
    quantized: nn.Module,
    timing: dict[str, Any] | None,
) -> None:
    """Weights, costs, scores, pictures, exports, times and the report, in the run's folder."""
    run, recipe, job, held_out = prepared.run, prepared.recipe, prepared.job, prepared.held_out
    outputs.clear(run)
    channels, plan = result.channels[name], result.plans[name]
    plan_json = plan.to_json(channels, basis=result.basis)
    run.write("plan.json", plan_json)
    sections = [section.to_json() for section in result.sections.get(name, ())]
    files, inserted = result.files.get(name, {}), job.original.inserted
    training = length_of(job.data, job.training)
    outputs.write_result(run, files=files, sections=sections, inserted=inserted, training=training)
    run.write("stages.json", run.stages())
    whole = network_spec(prepared.net, job.example, job.data, values_of(networks["teacher"]))
    cut = whole.model_copy(update={"plan": plan_json, "transforms": dict(job.original.transforms)})
    for of, network in networks.items():
        save_network(
            run.path / f"{of}.safetensors", in_evaluation(network), whole if of == "teacher" else cut
        )
    outputs.write_cost(
        run,
        networks,
        channels,
        plan,
        job.budget,
        recipe.limits,
        original=job.original.untouched,
        timing=timing,
    )
    # From here on a failure costs one file: there is a student, and what can be said of it is said.
    if settings.mode == "none" and result.quantization is not None:
        int8.note_trained(run, result.quantization)
    options = recipe.export.options
    if settings.mode != "none":
        with losing(run, int8.FILE):
            networks["int8"] = int8.write_int8(
                run,
                quantized,
                job.example,
                settings,
                job.data,
                held_out,
                trained=result.quantization,
                licence=recipe.export.licence,
                **options,
            )
    split = "held out: every tenth of the given samples"
    if recipe.data is not None:
        split = split_said(recipe.data, recipe.metrics.split)
    with losing(run, "metrics.json"):
        trained = (job.data, job.unlabelled)
        write_metrics(run, networks, held_out, recipe.metrics, split, trained=trained)
    with losing(run, "samples/samples.json"):
        outputs.write_samples(run, networks, held_out)
    for exporter in recipe.export.names:
        with losing(run, outputs.file_of(exporter)):
            outputs.write_export(
                run,
                exporter,
                networks["student"],
                job.example,
                held_out,
                licence=recipe.export.licence,
                **options,
            )
    if recipe.latency.enabled:
        options = recipe.latency.model_dump(include={"threads", "seconds"})
        if job.stopwatch is not None:  # as plans were timed
            options["threads"] = job.stopwatch.profile.threads
        with losing(run, "latency.json"):
            outputs.write_latency(run, networks, job.example, **options)
    write_report(run.path)


def _from_scratch(run: Run, job: Job, result: Result, name: str) -> nn.Module:
    """The student's architecture, trained on the task alone for as long: what the method has to beat."""
    network = extract(result.originals[name], result.channels[name], result.plans[name])
    shape = {"plan": result.plans[name].to_json(result.channels[name])["layers"]}
    return train_alone(run, "scratch", network, job, made_from=shape)
