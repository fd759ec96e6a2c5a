"""From a student to its file in integers: ranges seen on images, perhaps training under quantizers, export, comparison."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from ganshrink.data import Images
from ganshrink.exporters import export_int8
from ganshrink.exporters.int8 import ParityError
from ganshrink.exporters.network import OnnxGenerator
from ganshrink.methods.base import Job
from ganshrink.quant import Grids, QuantConfig, QuantizationConfig, attached, calibrate, deploy, spread
from ganshrink.quant.calibration import without_coarse
from ganshrink.quant.layers import find_layers
from ganshrink.reports.quantized import INT8 as FILE
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.generator import Input, as_tuple
from ganshrink.system.values import Values, converting, values_of
from ganshrink.training.stages import Artefacts, Run, Stage, tensors_hash
from ganshrink.training.tasks import with_settings
from ganshrink.training.train import Nets, fit_nets
from ganshrink.workflow.formats import INT8, provenance, write_formats
from ganshrink.workflow.missing import found
from ganshrink.workflow.saved_networks import picture_spec

logger = logging.getLogger(__name__)

STEP_DB = 1.0  # inputs that round about as badly as the worst are given up with it
COMPARED = 32  # held-out images that the file is compared with torch on


def finetune(
    run: Run, job: Job, config: QuantizationConfig, student: nn.Module
) -> tuple[nn.Module, QuantizationConfig]:
    """A copy of the student, trained on under quantizers towards the teacher's images: the stage `int8`; and the settings
    with the ranges that it was trained under.

    Raises:
        ValueError: if the images or a layer cannot be used (see `calibrate`).
    """
    quantized = copied(student)
    training = job.training.for_search().model_copy(
        update={**config.model_dump(include={"epochs", "decay_epochs", "max_steps"}), "compile": False}
    )
    teacher = job.teacher()["G"]
    task: Any = job.task.as_student_task(teacher, target="teacher")
    task = with_settings(task, lr=config.lr or task.config.lr / 10)
    tuned = replace(job, task=task, training=training)

    def learn(stage: Stage) -> Artefacts:
        logger.info("finetuning the student under quantizers")
        nets: Nets = task.nets(quantized, job.data.in_channels, job.data.out_channels)
        if "D" in nets:
            _go_on(run, student, nets["D"])
        with attached(quantized, config, job.example, spread(job.data, config.images)) as quantizers:
            fit_nets(stage, nets, task, job.data, training, progress=job.progress)
            ranges = quantizers.ranged().ranges
        return {**{name: network.state_dict() for name, network in nets.items()}, "ranges": ranges}

    made_from = {
        "student": tensors_hash(student.state_dict()),
        "teacher": tensors_hash(teacher.state_dict()),
        "quantization": config.model_dump(mode="json"),
        **tuned.describe(),
    }
    trained = run.stage("int8", learn, made_from=made_from, after=())
    quantized.load_state_dict(trained["G"])
    ranged = {**config.model_dump(), "ranges": trained["ranges"]}
    return in_evaluation(quantized), QuantizationConfig.model_validate(ranged)


def write_int8(
    run: Run,
    student: nn.Module,
    example: Input,
    config: QuantizationConfig,
    images: Images,
    held_out: Images,
    *,
    trained: QuantConfig | None = None,
    licence: str | None = None,
    **options: Any,
) -> nn.Module:
    """student-int8.onnx, and what it cost: quantization.json, and its entries in parity.json and cost.json.

    Args:
        student: trained or not under the quantizers of `config`.
        images: the training images, to see ranges on.
        held_out: those to compare on.
        trained: the quantizers that the method trained its student under, if it did.
        licence: of the student, for the file's metadata.
        options: of `export_int8`.

    Returns:
        the file as a network, to be scored as the others are.

    Raises:
        ValueError: if it cannot be quantized, or the file computes something else; no file is left then.
    """
    find_layers(
        student, example, config.exclude
    )  # what is asked for wrongly must not cost the file that is there
    logger.info("making %s and comparing it with torch", FILE)
    _forget(run)
    options["provenance"] = provenance(student, licence)
    note = {"config": config.model_dump(mode="json"), "trained": trained and trained.model_dump(mode="json")}
    try:
        made = _make(run, student, example, config, images, held_out, options)
    except ValueError as error:
        run.write("quantization.json", {**note, "refused": str(error)})
        raise
    run.write("quantization.json", {**note, **made})
    found(run, FILE)
    return open_int8(run.path)


def note_trained(run: Run, trained: QuantConfig) -> None:
    """Keep what a student was trained under, where there is no INT8 file to say so."""
    run.write("quantization.json", {"trained": trained.model_dump(mode="json")})


def _forget(run: Run) -> None:
    """Remove an earlier INT8 file and all that was said of it."""
    (run.path / FILE).unlink(missing_ok=True)
    for file, name in (("parity.json", FILE), ("cost.json", "int8"), ("metrics.json", "int8")):
        content = run.read(file) if (run.path / file).is_file() else {}
        if content.pop(name, None) is not None:
            run.write(file, content)
    latency = run.read("latency.json") if (run.path / "latency.json").is_file() else {}
    rows = [row for row in latency.get("rows", []) if row.get("network") != "int8"]
    if len(rows) < len(latency.get("rows", [])):
        run.write("latency.json", latency | {"rows": rows})
    write_formats(run)


def _make(
    run: Run,
    student: nn.Module,
    example: Input,
    config: QuantizationConfig,
    images: Images,
    held_out: Images,
    options: dict[str, Any],
) -> dict[str, Any]:
    """The file and its entries in parity.json and cost.json; returns the report of `deploy`, and sizes in bytes."""
    grids: Grids = calibrate(student, config, spread(images, config.images))
    shapes = [tensor.shape[1:] for tensor in as_tuple(example)]
    seen = [given for given in spread(held_out, COMPARED) if [t.shape[1:] for t in given] == shapes]
    options = {
        **options,
        "spec": picture_spec(as_tuple(example), held_out),
    }
    while True:
        deployed, report = deploy(student, config, grids, seen or [as_tuple(example)])
        try:
            entry = export_int8(deployed, example, run.path / FILE, inputs=seen, **options)
            break
        except ParityError as error:
            grids = _relieved(grids, str(error))
    if own := {path: why for path, why in report["float"].items() if path not in config.exclude}:
        told = "; ".join(f"{path}: {why}" for path, why in list(own.items())[:5])
        logger.warning("%d convolutions stay in float: %s", len(own), told + "; ..." * (len(own) > 5))
    sizes = {
        "file": entry["bytes"],
        "integers": sum(t.numel() * t.element_size() for t in deployed.state_dict().values()),
        "float32": sum(4 * t.numel() for t in student.state_dict().values()),
    }
    if entry["image_io"] is None and (values := values_of(student)) is not None:
        entry["values"] = values.model_dump(mode="json")  # the file takes what the original network does
    _add(run, "parity.json", FILE, {**entry, "format": INT8})
    write_formats(run)
    if (run.path / "cost.json").is_file():
        cost = run.read("cost.json")["student"] | {"bytes": sizes["integers"]}
        cost.pop("memory", None)  # counted in float32
        _add(run, "cost.json", "int8", cost)
    return {**report, "bytes": sizes}


def open_int8(folder: Path) -> nn.Module:
    """The INT8 file of a run as a network."""
    parity = json.loads((folder / "parity.json").read_bytes())
    entry = parity[FILE]
    file = OnnxGenerator(folder / FILE, image_io=entry["image_io"])
    return converting(file, Values.model_validate(entry["values"])) if entry.get("values") else file


def trained_under(folder: Path) -> QuantConfig | None:
    """The quantizers that the student of a run was trained under; None: it was trained in float."""
    file = folder / "quantization.json"
    trained = json.loads(file.read_bytes()).get("trained") if file.is_file() else None
    return None if trained is None else QuantConfig(**trained)


def overrides_of(folder: Path) -> list[str]:
    """How the INT8 file of a run was made, as words for `quantize`; none where it has no such file."""
    if not (folder / FILE).is_file():
        return []
    made = QuantizationConfig(**json.loads((folder / "quantization.json").read_bytes())["config"]).given()
    made.pop("ranges", None)  # what training under quantizers came to, and comes to again
    return [f"quantization.{key}={json.dumps(value)}" for key, value in made.items()]


def _add(run: Run, file: str, name: str, value: Any) -> None:
    content = run.read(file) if (run.path / file).is_file() else {}
    run.write(file, content | {name: value})


def _go_on(run: Run, student: nn.Module, judge: nn.Module) -> None:
    """Give a discriminator the weights of the one that the student was trained with, where the run kept them: in the stage
    that has the student's own weights."""
    kept = run.read("stages.json") if (run.path / "stages.json").is_file() else []  # of a finished run
    ours = tensors_hash(student.state_dict())
    for stage in reversed(kept + run.stages()):
        for way in ("", "_A", "_B"):  # a method that trains a CycleGAN keeps the nets of both
            made, file = (run.path / stage["path"] / f"{net}{way}.safetensors" for net in "GD")
            if made.is_file() and file.is_file() and tensors_hash(load_file(made)) == ours:
                state = load_file(file)
                if {k: t.shape for k, t in state.items()} == {
                    k: t.shape for k, t in judge.state_dict().items()
                }:
                    judge.load_state_dict(state)
                    return
    logger.warning("the run kept no discriminator of the student's: a new one starts fresh")


def _relieved(grids: Grids, error: str) -> Grids:
    """The grids but for the inputs that round worst, after a file was refused.

    Raises:
        ParityError: if there are no fitted ranges, or half of them were given up.
    """
    known = {path: found.snr_db for path, found in grids.items() if found.snr_db is not None}
    rounded = {path: snr for path, snr in known.items() if grids[path].input is not None}
    if len(rounded) <= len(known) / 2:
        raise ParityError(error)
    least = min(rounded.values()) + STEP_DB
    coarse = sorted((snr, path) for path, snr in rounded.items() if snr < least)
    named = ", ".join(f"{path} ({snr:.0f} dB)" for snr, path in coarse)
    logger.info("%s; once more with the inputs that round worst in float: %s", error, named)
    return without_coarse(grids, least)
