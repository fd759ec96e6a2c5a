"""Verbs on the folder of a finished run: score, export, quantize and time its networks again."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganshrink.data import Images, open_dataset, open_unlabelled
from ganshrink.data.config import Split
from ganshrink.data.splits import split_said
from ganshrink.exporters import exporter
from ganshrink.exporters.runtime import load_extra
from ganshrink.latency.devices import device_of
from ganshrink.latency.profile_device import measure_profile
from ganshrink.latency.profiles import DeviceProfile, write_profile
from ganshrink.methods.base import Job
from ganshrink.methods.original import Original
from ganshrink.pruning import Budget
from ganshrink.reports import write_report
from ganshrink.system.copies import in_evaluation
from ganshrink.training.stages import Run, tensors_hash
from ganshrink.training.tasks.steady import steadied
from ganshrink.workflow import compress, int8, outputs
from ganshrink.workflow import formats as formats_file
from ganshrink.workflow.output_stages import note, stamp_of_times
from ganshrink.workflow.overrides import parse_overrides, put
from ganshrink.workflow.recipe import Recipe, read_recipe
from ganshrink.workflow.saved_networks import Uncut, example_of, load_network, read_spec, student_file
from ganshrink.workflow.scoring import write_metrics


def load_networks(path: str | Path, original: Uncut = None) -> dict[str, nn.Module]:
    """The networks that a finished run kept, by name.

    Args:
        path: the run's folder.
        original: for runs on a network of the user's own, that network uncut, or its MODULE:NAME.

    Raises:
        FileNotFoundError: if the folder holds no student.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} holds no student.safetensors: is it the folder of a finished run?")
    student_file(path)
    files = {name: path / f"{name}.safetensors" for name in outputs.NETWORKS}
    found = {name: load_network(file, original)[0] for name, file in files.items() if file.is_file()}
    if (path / int8.FILE).is_file():
        found["int8"] = int8.open_int8(path)
    return {name: found[name] for name in outputs.NETWORKS if name in found}


def evaluate_run(
    path: str | Path, overrides: Sequence[str] = (), *, net: Uncut = None, own: Sequence[str] = ()
) -> dict[str, Any]:
    """Score the networks of a run again; overrides change [metrics] and [data], such as `metrics.split=val`.

    Here and below `net` is for a network of the user's own, its MODULE:NAME or that network uncut; `own` are the
    MODULE:NAMEs of other parts that the run's recipe names and that may be imported.
    """
    path = Path(path)
    for table in parse_overrides(overrides):
        if table not in ("metrics", "data"):
            raise ValueError(
                f"evaluate takes metrics.KEY=VALUE and data.KEY=VALUE, not {table!r}: the run is finished"
            )
    recipe, run = _recipe(path, overrides, own), Run(path)
    networks = load_networks(path, net)
    images = _held_out(recipe, path)
    assert recipe.data is not None
    split, trained = split_said(recipe.data, recipe.metrics.split), _trained(path, own)
    metrics = write_metrics(run, networks, images, recipe.metrics, split, trained=trained)
    write_report(path)
    return metrics


def export_run(
    path: str | Path,
    *,
    dynamic_size: bool | None = None,
    image_io: str | None = None,
    formats: Sequence[str] | None = None,
    timed: bool = False,
    licence: str | None = None,
    net: Uncut = None,
    own: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the files of a run's student again; what is not given is as in the recipe.

    Args:
        formats: exporters by name or MODULE:NAME, or `onnx-int8`, which is `quantize_run` as the run's INT8 file was made,
            or else as the recipe has it; None: onnx and the recipe's formats.
        timed: also time each of these files beside the teacher's in the same format, which is written for it; `onnx-int8`
            beside the teacher in float32, as `measure_run` does.

    Returns:
        parity.json.

    Raises:
        ValueError: for an unknown format, a missing extra, or where a file computes something else than torch.
    """
    path, formats = Path(path), [formats] if isinstance(formats, str) else formats
    if formats is not None and not formats:
        raise ValueError("no format is named: write for example --format onnx,openvino, or leave it out")
    for name in formats or ():
        if name != formats_file.INT8:
            load_extra(exporter(name).extra)
    recipe, run = _recipe(path, (), own), Run(path)
    networks = load_networks(path, net)
    images = None if recipe.data is None else _held_out(recipe, path)
    options = _options(recipe, dynamic_size, image_io)
    example, licence = example_for(path), licence or recipe.export.licence
    for name in dict.fromkeys(("onnx", *recipe.export.formats) if formats is None else formats):
        if name == formats_file.INT8:
            made = int8.overrides_of(path)
            quantize_run(path, made, licence=licence, timed=timed, net=net, own=own, **options)
            continue
        outputs.write_export(run, name, networks["student"], example, images, licence=licence, **options)
        if timed:
            formats_file.time_format(
                run, name, networks["teacher"], example, image_io=options["image_io"], **_timing(recipe)
            )
        _note(run, outputs.file_of(name), networks["student"], outputs.files_of(name), "parity.json")
    outputs.write_goldens(run, networks["student"], example, images)
    write_report(path)
    return run.read("parity.json")


def _note(run: Run, file: str, student: nn.Module, files: Sequence[str], *told: str) -> None:
    """Let a file outlast another `compress` on the run, with its entries in others."""
    entries = {name: "int8" if name == "cost.json" else file for name in told}
    note(run, file, tensors_hash(student.state_dict()), files=files, entries=entries)


def _options(recipe: Recipe, dynamic_size: bool | None, image_io: str | None) -> dict[str, Any]:
    """Of an exporter: as given, else as in the recipe."""
    return {
        "dynamic_size": recipe.export.dynamic_size if dynamic_size is None else dynamic_size,
        "image_io": recipe.export.image_io if image_io is None else image_io,
    }


def _timing(recipe: Recipe) -> dict[str, Any]:
    return recipe.latency.model_dump(include={"threads", "seconds"})


def quantize_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    dynamic_size: bool | None = None,
    image_io: str | None = None,
    licence: str | None = None,
    timed: bool = False,
    net: Uncut = None,
    own: Sequence[str] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """Make the INT8 file of a run's student, whatever the method; then score, show and time it beside the others.

    Args:
        overrides: of [quantization], such as `quantization.mode=finetune`. What is not given is as in the recipe, or as the
            student was trained; without a mode, ranges are calibrated and nothing is trained.
        dynamic_size, image_io, licence: of the file; None: as in the recipe.
        timed: measure times also where the recipe does not.

    Returns:
        quantization.json.

    Raises:
        ValueError: if the student cannot be quantized, or the file computes something else in ONNX Runtime.
    """
    path = Path(path)
    for table in parse_overrides(overrides):
        if table != "quantization":
            raise ValueError(f"quantize takes quantization.KEY=VALUE, not {table!r}: the run is finished")
    recipe = _recipe(path, overrides, own)
    images, held_out = _held_out(recipe, path, "train"), _held_out(recipe, path)
    networks, run = load_networks(path, net), Run(path, seed=recipe.seed)
    trained = int8.trained_under(path)
    asked = {**recipe.quantization.given(), **parse_overrides(overrides).get("quantization", {})}
    settings = recipe.quantization.ready(trained, asked)
    quantized = networks["student"]
    if settings.mode == "finetune":
        job = _job(recipe, networks, images, path, progress)
        quantized, settings = int8.finetune(run, job, settings, quantized)
        made = run.read("stages.json") if (path / "stages.json").is_file() else []
        run.write("stages.json", [stage for stage in made if stage["name"] != "int8"] + run.stages())
    options = _options(recipe, dynamic_size, image_io)
    networks["int8"] = int8.write_int8(
        run,
        quantized,
        example_for(path),
        settings,
        images,
        held_out,
        trained=trained,
        licence=licence or recipe.export.licence,
        **options,
    )
    _note(run, int8.FILE, networks["student"], (int8.FILE, "quantization.json"), "parity.json", "cost.json")
    outputs.add_int8_goldens(run)
    assert recipe.data is not None
    split, seen = split_said(recipe.data, recipe.metrics.split), _trained(path, own)
    write_metrics(run, networks, held_out, recipe.metrics, split, trained=seen)
    outputs.write_samples(run, networks, held_out)
    if timed or recipe.latency.enabled:
        _measure(run, networks, **_timing(recipe))
    write_report(path)
    return run.read("quantization.json")


def measure_run(
    path: str | Path, *, threads: int | None = None, seconds: float = 20, net: Uncut = None
) -> dict[str, Any]:
    """Time teacher and student here."""
    path = Path(path)
    networks = load_networks(path, net)
    run = Run(path)
    latency = _measure(run, networks, threads=threads, seconds=seconds)
    write_report(path)
    return latency


def _measure(run: Run, networks: Mapping[str, nn.Module], **options: Any) -> dict[str, Any]:
    """latency.json, which outlasts another `compress` on the run while what was timed is the same."""
    latency = outputs.write_latency(run, networks, example_for(run.path), **options)
    student, files = tensors_hash(networks["student"].state_dict()), ("latency.json", outputs.TEACHER)
    note(run, "latency.json", student, files=files, entries={}, of=stamp_of_times(run.path))
    return latency


def profile_device(
    target: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    *,
    device: str = "cpu",
    runtime: str | None = None,
    threads: int | None = None,
    net: Uncut = None,
) -> DeviceProfile:
    """Look at this machine for the whole network of a finished run, or of a recipe, and write its device profile.

    Args:
        target: the folder of a run, or a recipe's file, whose data tell the size at which times count.
        out: the file to write, a `.toml`.
        overrides: `key=value` to change in the recipe; a run's network is as it is.
        device: `cpu` or `cuda`; runtime, threads: as in `open_profile`.

    Raises:
        ValueError: for a device or runtime that is not here, or a name that is not a TOML file's.
    """
    target, out = Path(target), Path(out)
    if out.suffix != ".toml":
        raise ValueError(f"a device profile is a TOML file: name it {out.name}.toml, not {out}")
    if target.is_dir() and overrides:
        raise ValueError(
            f"{target} is a run, whose network is as it is: {overrides[0]} would change a recipe"
        )
    if not target.is_dir() and net is not None:
        raise ValueError(f"--net is for the folder of a run; the recipe {target} names its network")
    if target.is_dir():
        network, example = load_networks(target, net)["teacher"], example_for(target)
    else:
        network, example = compress.original_of(read_recipe(target, overrides))
    found = measure_profile(
        in_evaluation(network), example, device_of(device, runtime=runtime, threads=threads)
    )
    write_profile(found, out)
    return found


def example_for(path: str | Path) -> tuple[torch.Tensor, ...]:
    """Inputs of the shapes that the network was traced with, of the kind that it takes."""
    spec = read_spec(Path(path) / "student.safetensors")
    example = example_of(spec)
    if spec.input is not None and spec.input.kind == "labels":
        example[0][:, 0] = 1  # a map of class 0
    return example


def _held_out(recipe: Recipe, path: Path, split: Split | None = None) -> Images:
    """The images that networks are scored on, or another split."""
    if recipe.data is None:
        raise ValueError(
            f"{path} was made from data in memory: score it with ganshrink.evaluate, and quantize it where it is made, by "
            "quantization = {'mode': 'calibrate'}"
        )
    return open_dataset(recipe.data, split or recipe.metrics.split)


def _trained(path: Path, own: Sequence[str]) -> list[Images | None] | None:
    """The images that the networks of a run were trained on; None where they are not here."""
    data = _recipe(path, (), own).data
    assert data is not None
    try:
        return [open_dataset(data, "train", checked=False), open_unlabelled(data, checked=False)]
    except (FileNotFoundError, ValueError):
        return None


def _job(recipe: Recipe, networks: dict[str, nn.Module], images: Images, path: Path, progress: bool) -> Job:
    """What a training of the run's student needs, with the teacher that the run kept."""
    teacher, task = networks["teacher"], steadied(recipe.new_task(), recipe.student.lambda_shift)
    budget = Budget.parse(recipe.limits)
    original = Original(lambda: teacher, example_for(path), {})
    return Job(original, lambda: {"G": teacher}, task, images, budget, recipe.student, progress)


def _recipe(path: Path, overrides: Sequence[str], own: Sequence[str]) -> Recipe:
    """The recipe of a run. A folder may come from anyone: what it names as code to import, the user must name too."""
    file = path / "recipe.toml"
    if not file.is_file():
        raise FileNotFoundError(f"{path} holds no recipe.toml: is it the folder of a finished run?")
    asked = tomllib.loads(file.read_text(encoding="utf-8"))
    for override in overrides:
        put(asked, override)
    allowed = {*own, *_names(parse_overrides(overrides))}
    for name in _names(asked):
        if ":" in name and name not in allowed:
            raise ValueError(
                f"{path} was made with {name}, code that is run only if you name it: --own {name} (in Python, `own`)"
            )
    return read_recipe(file, overrides)


def _names(tables: Mapping[str, Any]) -> list[str]:
    """The names of data set, task, method, metrics, segmenter and exporters in tables of a recipe."""
    named = [tables[table].get("name", "") for table in ("data", "task", "method") if table in tables]
    named.append(tables.get("metrics", {}).get("segmenter", ""))
    lists = (tables.get("metrics", {}).get("names"), tables.get("export", {}).get("formats"))
    return [*named, *(name for names in lists for name in names or ())]
