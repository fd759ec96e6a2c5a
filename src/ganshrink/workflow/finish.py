"""From what a method made to everything that a run leaves behind: the same for every method."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganshrink.data.images import whole_of
from ganshrink.data.splits import split_said
from ganshrink.deploy.goldens import FILE as GOLDENS
from ganshrink.exporters import exporter
from ganshrink.methods.base import Job, Result
from ganshrink.methods.distill import train_alone
from ganshrink.pruning import Plan, extract
from ganshrink.quant import QuantizationConfig
from ganshrink.quant.layers import still_there
from ganshrink.reports import write_report
from ganshrink.reports.page import VERDICT
from ganshrink.system.copies import in_evaluation
from ganshrink.system.distributed import barrier, is_main_process
from ganshrink.system.machine import core_count, device_name
from ganshrink.system.values import raw, values_of
from ganshrink.training.stages import Run, file_hash, tensors_hash
from ganshrink.training.stamps import sources, stamp
from ganshrink.training.train import Nets, length_of
from ganshrink.workflow import int8, outputs
from ganshrink.workflow.formats import write_formats
from ganshrink.workflow.measured_devices import keep_current
from ganshrink.workflow.missing import losing, missing
from ganshrink.workflow.output_stages import OutputStages, stamp_of_metrics, stamp_of_report, stamp_of_times
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
    run, recipe, job = prepared.run, prepared.recipe, prepared.job
    outputs.clear(run)
    channels, plan = result.channels[name], result.plans[name]
    plan_json = plan.to_json(channels, basis=result.basis)
    run.write("plan.json", plan_json)
    sections = [section.to_json() for section in result.sections.get(name, ())]
    files, inserted = result.files.get(name, {}), job.whole.inserted
    training = length_of(job.data, job.training)
    replaced = {"teacher": job.original.name, "student": job.whole.name} if job.student_net else None
    outputs.write_result(
        run, files=files, sections=sections, inserted=inserted, training=training, nets=replaced
    )
    run.write("stages.json", run.stages())
    whole, uncut = (
        network_spec(
            None if one.net is None else dict(one.net), job.example, job.data, values_of(networks[of])
        )
        for of, one in (("teacher", job.original), ("student", job.whole))
    )
    cut = uncut.model_copy(update={"plan": plan_json, "transforms": dict(job.whole.transforms)})
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
    if settings.mode == "none" and result.quantization is not None:
        int8.note_trained(run, result.quantization)
    _Outputs(prepared, result, networks, settings, quantized).make()


class _Outputs:
    """INT8 file, scores, pictures, exports, times and the report, each unless an earlier call left it. A failure costs one
    file: there is a student, and what can be said of it is said.

    Args:
        networks: by name, those that are scored; the INT8 file joins them.
        settings, quantized: how INT8 is made, and of which network.
    """

    def __init__(
        self,
        prepared: Prepared,
        result: Result,
        networks: Nets,
        settings: QuantizationConfig,
        quantized: nn.Module,
    ) -> None:
        self.run, self.recipe, self.job = prepared.run, prepared.recipe, prepared.job
        self.held_out, self.networks = prepared.held_out, networks
        self.settings, self.quantized, self.trained = settings, quantized, result.quantization
        self.stages = OutputStages(self.run)
        self.student, example = networks["student"], self.job.example
        # what outputs are made from
        self.stamps: dict[str, Any] = {name: stamp(network) for name, network in networks.items()}
        self.images = [self.held_out.fingerprint(), sources(whole_of(self.held_out))]
        self.example = [[str(tensor.dtype), *tensor.shape] for tensor in example]
        self.options = self.recipe.export.options | {"licence": self.recipe.export.licence}

    def make(self) -> None:
        self.stages.keep(tensors_hash(self.student.state_dict()))  # what other verbs wrote
        if self.settings.mode != "none":
            self._int8()
        if (self.run.path / int8.FILE).is_file():
            self.networks["int8"] = int8.open_int8(self.run.path)
            self.stamps["int8"] = file_hash(self.run.path / int8.FILE)
        self._scores()
        self._samples()
        for name in self.recipe.export.names:
            self._export(name)
        if self.recipe.export.names:
            self._goldens()
        if (
            not self.stages.kept("latency.json", stamp_of_times(self.run.path))
            and self.recipe.latency.enabled
        ):
            self._times()
        write_formats(self.run)
        keep_current(self.run.path)
        made_from = {"run": stamp_of_report(self.run.path)}
        write = partial(write_report, self.run.path)
        self.stages.once("report.html", write, made_from, files=("report.html", VERDICT))
        self.stages.close()

    def _once(self, name: str, make: Callable[[], Any], made_from: dict[str, Any], **files: Any) -> None:
        with losing(self.run, name):
            self.stages.once(name, make, made_from, **files)

    def _int8(self) -> None:
        run, job, trained = self.run, self.job, self.trained
        write = partial(
            int8.write_int8, run, self.quantized, job.example, self.settings, job.data, self.held_out
        )
        made_from = {
            "student": stamp(self.quantized),
            "settings": [self.settings.model_dump(mode="json"), trained and trained.model_dump(mode="json")],
            "images": [job.data.fingerprint(), self.held_out.fingerprint()],
            "example": self.example,
            "options": self.options,
        }
        entries = {"parity.json": int8.FILE, "cost.json": "int8"}
        files = (int8.FILE, "quantization.json")
        write = partial(write, trained=trained, **self.options)
        self._once(int8.FILE, write, made_from, files=files, entries=entries)

    def _scores(self) -> None:
        recipe, seen = self.recipe, (self.job.data, self.job.unlabelled)
        split = "held out: every tenth of the given samples"
        if recipe.data is not None:
            split = split_said(recipe.data, recipe.metrics.split)
        made_from = {
            "networks": self.stamps,
            "images": self.images,
            "metrics": stamp_of_metrics(recipe.metrics),
            "split": split,
            "trained": [None if images is None else images.fingerprint() for images in seen],
        }
        write = partial(write_metrics, self.run, self.networks, self.held_out, recipe.metrics, split)
        files = ("metrics.json", outputs.SCORES)
        self._once("metrics.json", partial(write, trained=seen), made_from, files=files)

    def _samples(self) -> None:
        write = partial(outputs.write_samples, self.run, self.networks, self.held_out)
        made_from = {"networks": self.stamps, "images": self.images}
        files = ("samples/samples.json", "samples/*.png")
        self._once("samples/samples.json", write, made_from, files=files)

    def _export(self, name: str) -> None:
        file = outputs.file_of(name)
        write = partial(outputs.write_export, self.run, name, self.student, self.job.example, self.held_out)
        made_from = {
            "student": self.stamps["student"],
            "exporter": sources(exporter(name).export),
            "images": self.images,
            "example": self.example,
            "options": self.options,
        }
        files, entries = outputs.files_of(name), {"parity.json": file}
        self._once(file, partial(write, **self.options), made_from, files=files, entries=entries)

    def _goldens(self) -> None:
        write = partial(outputs.write_goldens, self.run, self.student, self.job.example, self.held_out)
        student = {name: self.stamps.get(name) for name in ("student", "int8")}
        made_from = {"networks": student, "images": self.images, "example": self.example}
        self._once(GOLDENS, write, made_from)

    def _times(self) -> None:
        """latency.json, of this machine."""
        run, recipe, job = self.run, self.recipe, self.job
        options = recipe.latency.model_dump(include={"threads", "seconds"})
        if job.stopwatch is not None:  # as plans were timed
            options["threads"] = job.stopwatch.profile.threads
        timed = [run.path / name for name in ("student.onnx", int8.FILE)]
        made_from = {
            "networks": {name: self.stamps[name] for name in ("teacher", "student")},
            "example": self.example,
            "device": [device_name(job.example[0].device), core_count(), torch.get_num_threads()],
            "files": {path.name: file_hash(path) for path in timed if path.is_file()},
            "options": options | {"image_io": recipe.export.image_io},
        }
        write = partial(outputs.write_latency, run, self.networks, job.example, **options)
        self._once("latency.json", write, made_from, files=("latency.json", outputs.TEACHER))


def _from_scratch(run: Run, job: Job, result: Result, name: str) -> nn.Module:
    """The student's architecture, trained on the task alone for as long: what the method has to beat."""
    network = extract(result.originals[name], result.channels[name], result.plans[name])
    shape = {"plan": result.plans[name].to_json(result.channels[name])["layers"]}
    return train_alone(run, "scratch", network, job, made_from=shape)
