"""What a run leaves behind besides its scores: weights, costs, pictures, ONNX, latency, each in a file of its folder."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.data import Images, as_picture, write_png
from ganshrink.data.images import num_inputs, offered_by, stored_target
from ganshrink.data.passes import spread_indices
from ganshrink.data.pixels import enlarged
from ganshrink.deploy import goldens
from ganshrink.exporters import EXPORTERS, export_onnx, exporter
from ganshrink.exporters.runtime import PACKAGES, load_extra, load_optional
from ganshrink.latency import measure_latency
from ganshrink.metrics import Metric, Pictures, build
from ganshrink.metrics.checkerboard import PERIOD, repeating, smooth_inputs
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.reports.page import VERDICT
from ganshrink.reports.page import load_extra as load_page
from ganshrink.system.copies import in_evaluation
from ganshrink.system.generator import Input, as_tuple, batch_of_one, generate, image_like, image_of
from ganshrink.system.own import call
from ganshrink.training.stages import Run, file_hash, tensors_hash
from ganshrink.workflow.fitting import sizes_told
from ganshrink.workflow.formats import FORMATS, provenance, write_formats
from ganshrink.workflow.int8 import FILE as INT8
from ganshrink.workflow.missing import MISSING, found
from ganshrink.workflow.output_stages import set_aside
from ganshrink.workflow.recipe import Recipe
from ganshrink.workflow.saved_networks import picture_spec, read_spec

logger = logging.getLogger(__name__)

TEACHER = "teacher.onnx"  # for timing: an export takes longer than that, and a teacher stays as it is
SCORES = "scores.safetensors"  # what the metrics are made of, picture by picture
COMPARED = 4  # held-out pictures that every exported file is compared with torch on
NETWORKS = ("teacher", "student", "int8", "scratch")  # the networks of a run, in the order of every table

# What one student's run leaves beside its pictures; an earlier one's must not stand beside a new one's. The weights
# are first, so that no verb takes a half-renewed run for whole. The teacher's are not among them: it may stay.
FILES = (
    "student.safetensors",
    "scratch.safetensors",
    "plan.json",
    "result.json",
    "stages.json",
    "cost.json",
    "metrics.json",
    SCORES,
    "samples/samples.json",
    "student.onnx",
    "student-int8.onnx",
    goldens.FILE,
    "quantization.json",
    "parity.json",
    FORMATS,
    "latency.json",
    MISSING,
    "report.html",
    VERDICT,
)


def check_ready(recipe: Recipe, original: nn.Module, images: Images) -> None:
    """Fail before anything is trained for what would fail after it: missing weights, extras, shapes that do not fit.

    Raises:
        ValueError: if the generator does not turn the data's inputs into images like their targets, or a metric cannot
            score these.
        FileNotFoundError: if a weights file of a metric is missing.
    """
    metrics = build(recipe.metrics, offered=offered_by(images))
    sample = images.sample(0, None)
    if recipe.metrics.reals.endswith("-stored"):
        stored_target(images, 0)
    for name in recipe.export.names:
        load_extra(exporter(name).extra)
    if recipe.quantization.mode != "none":
        load_optional(*PACKAGES)
    load_page()
    try:
        with torch.no_grad():
            output = in_evaluation(original)(*batch_of_one(sample["input"]))
    except Exception as error:  # whatever a network of the user's own raises
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in as_tuple(sample["input"]))
        reason = sizes_told(original, sample["input"], recipe.net)
        reason = reason or (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the generator cannot take the data's inputs {shapes}: {reason}") from error
    made = image_of(output)
    if made.ndim != 4:
        raise ValueError(f"the generator makes {tuple(made.shape)} of one input: pictures are (B, C, H, W)")
    if "target" in sample and made.shape[1:] != sample["target"].shape:
        wanted = sample["target"].shape
        sides = list(zip(made.shape[2:], as_tuple(sample["input"])[0].shape[-2:], strict=True))
        odd = any(have % side and side % have for have, side in sides)  # else it only enlarges otherwise
        why = sizes_told(original, sample["input"], recipe.net, tuple(wanted[1:])) if odd else ""
        raise ValueError(_unlike(tuple(made.shape[1:]), tuple(wanted), why))
    _try_metrics(metrics, sample, made.clamp(-1, 1), original)


def _unlike(made: tuple[int, ...], wanted: tuple[int, ...], why: str) -> str:
    """The line that says that a generator's images are not like the targets, and what would make them so."""
    if why:
        return f"the generator makes images {made}, the data's targets are {wanted}: {why}"
    ways = []
    if made[0] != wanted[0]:
        ways.append(f"data.out_channels = {made[0]}, or a generator of {wanted[0]} channels")
    if made[1:] != wanted[1:]:
        ways.append(f"data.target_size = [{made[1]}, {made[2]}], or another data.size")
    return f"the generator makes images {made}, the data's targets are {wanted}: set {', and '.join(ways)}"


def _try_metrics(
    metrics: Sequence[Metric], sample: Mapping[str, Any], made: Tensor, original: nn.Module
) -> None:
    """Let each metric see one image, so that it refuses now what it cannot score."""
    batch = {key: sample[key][None] for key in ("target", "labels") if key in sample}
    made = made.nan_to_num()
    pictures = Pictures(fake=made, teacher=made, inputs=batch_of_one(sample["input"]), **batch)
    pictures.generator = lambda inputs: generate(in_evaluation(original), inputs).nan_to_num()
    for metric in metrics:
        try:
            metric.update(pictures)
        except ValueError as error:
            raise ValueError(f"metrics.names: {metric.name}: {error}") from None


def clear(run: Run) -> None:
    """Put aside what an earlier student of this run left behind, where it may be this one's too, and remove the rest."""
    kept = run.read("result.json").get("files", []) if (run.path / "result.json").is_file() else []
    whose = {TEACHER: entry} if (entry := _parity(run).get(TEACHER)) else {}
    exported = [file for one in EXPORTERS.values() for file in (one.file, *one.beside)]
    names = [*FILES, *exported, *(Path(str(file)).name for file in (*kept, *_parity(run)))]
    names += [f"samples/{picture.name}" for picture in (run.path / "samples").glob("*.png")]
    names += [] if whose else [TEACHER]
    set_aside(run.path, [name for name in names if name not in whose])
    if whose:
        run.write("parity.json", whose)


def file_of(name: str) -> str:
    """The file that an exporter writes."""
    return exporter(name).file


def files_of(name: str) -> list[str]:
    """All files that an exporter writes; patterns, where it is a folder."""
    return [file_of(name), *exporter(name).beside, f"{file_of(name)}/**/*"]


def write_result(
    run: Run,
    *,
    files: Mapping[str, Any],
    sections: Sequence[Any],
    inserted: Sequence[str],
    training: Mapping[str, int],
    nets: Mapping[str, str] | None = None,
) -> None:
    """What the method tells of how the student came about: its files, and result.json, which names them.

    Args:
        training: how many steps the student was trained for, and how many an epoch has.
        files: names and their JSON.
        nets: what `teacher` and `student` are called, where the student is cut out of another network.
        sections: of the report.
        inserted: paths of the modules that the method put into the original generator.
    """
    told: dict[str, Any] = {"files": list(files), "sections": list(sections), "inserted": list(inserted)}
    told |= {"nets": dict(nets)} if nets else {}
    run.write("result.json", told | {"training": dict(training)})
    for name, content in files.items():
        run.write(name, content)


def write_cost(
    run: Run,
    networks: Mapping[str, nn.Module],
    channels: Channels,
    plan: Plan,
    budget: Budget,
    given: str,
    *,
    original: Channels,
    timing: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """cost.json: parameters, MACs and memory of every network per image, and the budget as given and as resolved; where it
    is in milliseconds, also what the plan took (`timing`).

    Args:
        channels, plan: the student's, a cut of the original network or of that one with inserted blocks.
        original: the original network's structure.
    """

    def cost(network: nn.Module, structure: Channels, plan: Plan | None) -> dict[str, Any]:
        counted, paper = structure.cost(plan), structure.cost(plan, "paper")
        macs = {"exact": counted.macs, "paper": paper.macs}
        tensors = network.state_dict().values()
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        kernels = sum(p.numel() for p in network.parameters() if p.ndim > 1)
        params = sum(p.numel() for p in network.parameters())
        return {"params": params, "kernels": kernels, "macs": macs, "bytes": size, "memory": counted.memory}

    costs: dict[str, Any] = {
        name: cost(network, original, None) if name == "teacher" else cost(network, channels, plan)
        for name, network in networks.items()
    }
    shapes = [list(tensor.shape[1:]) for tensor in channels.example]
    costs["input"] = shapes[0] if len(shapes) == 1 else shapes
    costs["budget"] = {"given": given, "resolved": dict(budget.numbers())}
    if timing is not None:
        costs["budget"]["timing"] = dict(timing)
    run.write("cost.json", costs)
    return costs


def write_samples(run: Run, networks: Mapping[str, nn.Module], images: Images, *, count: int = 8) -> None:
    """samples/: images spread over the evaluation split as input (of several, the first that is one), every network's
    output, and target. An input that is smaller than the output is enlarged to it, its pixels as squares."""
    folder = run.path / "samples"
    rows = []
    paired = "pairs" in offered_by(images)
    for index, place in enumerate(spread_indices(num_inputs(images), count)):
        sample = images.sample(place, None)
        inputs = batch_of_one(sample["input"])
        pictures = {}
        if paired:
            pictures["target"] = as_picture(sample["target"])
        for name, network in networks.items():
            with torch.no_grad():
                image = generate(in_evaluation(network), inputs)[0]
            pictures[name] = as_picture(image)
        if seen := image_like(inputs, images.size):
            pictures["input"] = enlarged(images.preview(seen[0][0]), images.size, image.shape[1:])
        row = {"name": sample["name"]}
        for kind, picture in pictures.items():
            row[kind] = f"{index:03d}_{kind}.png"
            write_png(folder / row[kind], picture)
        rows.append(row)
    run.write("samples/samples.json", {"rows": rows, "checkerboard": _checkerboards(networks, images)})
    found(run, "samples/samples.json")


def _checkerboards(networks: Mapping[str, nn.Module], images: Images) -> dict[str, float]:
    """How strong a pattern of 2 or 4 pixels each network's outputs on smooth pictures show, in levels of 255; nothing where
    inputs are no pictures."""
    first = as_tuple(images.sample(0, None)["input"])[0]
    if "pictures" not in offered_by(images) or first.ndim != 3:
        return {}
    given = smooth_inputs(first.shape[0], (first.shape[1], first.shape[2])).split(1)
    found = {}
    for name, network in networks.items():
        with torch.no_grad():
            made = torch.cat([generate(in_evaluation(network), one) for one in given])
        found[name] = float(repeating(made.clamp(-1, 1), PERIOD).mean()) * 127.5
    return found


def write_export(
    run: Run,
    name: str,
    student: nn.Module,
    example: Input,
    images: Images | None,
    *,
    licence: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The student's file by an exporter, compared with torch on random and real inputs before it is called done, its entry
    in parity.json, and formats.json."""
    file = file_of(name)
    logger.info("exporting %s and comparing it with torch", file)
    inputs = _compared(example, images)
    if name in EXPORTERS:
        options["spec"] = picture_spec(as_tuple(example), images)
        options["provenance"] = provenance(student, licence)
    entry = export_to(run.path / file, name, student, example, inputs, **options)
    told = {"format": name, "python": exporter(name).python.format(file=file)}
    told |= {"runtime": EXPORTERS[name].runtime} if name in EXPORTERS else {}
    parity = _parity(run) | {file: {**entry, **told}}
    run.write("parity.json", parity)
    write_formats(run)
    found(run, file)
    return parity


def write_goldens(run: Run, student: nn.Module, example: Input, images: Images | None) -> None:
    """goldens.npz: what the student and its INT8 file, if there is one, make of three inputs here."""
    made_by = {"student": tensors_hash(student.state_dict()), "torch": str(torch.__version__)}
    path, inputs = run.path / goldens.FILE, _compared(example, images)
    goldens.write_goldens(path, in_evaluation(student), as_tuple(example), inputs, about=made_by)
    add_int8_goldens(run)


def add_int8_goldens(run: Run) -> None:
    """Put into goldens.npz what the INT8 file makes of them here, where there are both."""
    if (run.path / goldens.FILE).is_file() and (run.path / INT8).is_file():
        goldens.add_made(run.path / goldens.FILE, run.path / INT8)


def _compared(example: Input, images: Images | None) -> list[Input]:
    """The first held-out inputs of the example's size."""
    available = num_inputs(images) if images else 0
    inputs = [images.sample(i, None)["input"] for i in range(min(COMPARED, available))] if images else []
    sizes = [tensor.shape[1:] for tensor in as_tuple(example)]  # costs may count at another than the data's
    return [given for given in inputs if [tensor.shape for tensor in as_tuple(given)] == sizes]


def export_to(
    path: Path, name: str, network: nn.Module, example: Input, inputs: Sequence[Input], **options: Any
) -> dict[str, Any]:
    """A network's file by an exporter of this package or of the user's own; what the exporter says of it."""
    export = exporter(name).export
    given, more = (network, example, path), {"inputs": inputs, **options}
    return export(*given, **more) if name in EXPORTERS else call(name, export, *given, **more)


def write_latency(
    run: Run, networks: Mapping[str, nn.Module], example: Input, *, threads: int | None, seconds: float
) -> dict[str, Any]:
    """latency.json: teacher, student and the student's INT8 file, timed here, interleaved, in torch and the runtimes
    that are installed; from teacher.onnx, which is written where it is missing or another teacher's."""
    logger.info("timing teacher and student")
    pair = {name: networks[name] for name in ("teacher", "student")}
    shipped = teacher_file(run, networks["teacher"], example)
    if _takes_tensors(run):
        shipped["student"] = run.path / "student.onnx"
    if (run.path / INT8).is_file():
        shipped["int8"] = run.path / INT8
    latency = measure_latency(pair, example, threads=threads, seconds=seconds, onnx_files=shipped)
    run.write("latency.json", latency)
    write_formats(run)
    found(run, "latency.json")
    return latency


def teacher_file(run: Run, teacher: nn.Module, example: Input) -> dict[str, Path]:
    """teacher.onnx, exported unless it is there and of these weights and input shapes; nothing without the extra `onnx`, or
    where the teacher does not export: torch alone is then timed."""
    try:
        load_optional(*PACKAGES)
    except ValueError:
        return {}
    shapes = [list(tensor.shape) for tensor in as_tuple(example)]
    made_from = {"weights": tensors_hash(teacher.state_dict()), "example": shapes}
    path = run.path / TEACHER
    entry = _parity(run).get(TEACHER, {})
    same = path.is_file() and (entry.get("made_from"), entry.get("sha256")) == (made_from, file_hash(path))
    if not same:
        try:
            student = run.path / "student.safetensors"
            spec = read_spec(student).input if student.is_file() else None
            entry = export_onnx(teacher, example, path, spec=spec)
        except ValueError as error:
            logger.warning("there is no %s to time: %s", TEACHER, error)
            return {}
        whose = {"made_from": made_from, "sha256": file_hash(path)}
        others = {file: made for file, made in _parity(run).items() if file != TEACHER}
        run.write("parity.json", {TEACHER: {**entry, **whose}} | others)  # first, as where it was kept
    return {"teacher": path}


def _takes_tensors(run: Run) -> bool:
    """Whether the run's student.onnx is there and takes what the network takes, not 0..255 pictures."""
    exported = (run.path / "student.onnx").exists()
    return exported and _parity(run).get("student.onnx", {}).get("image_io", "") is None


def _parity(run: Run) -> dict[str, Any]:
    return run.read("parity.json") if (run.path / "parity.json").is_file() else {}
