"""Where a recipe's teacher comes from: weights that it names, or a training."""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganshrink import nets
from ganshrink.channels import initialise
from ganshrink.data import Images
from ganshrink.job import Nets, describe, fit_nets
from ganshrink.metrics.weights import find_weights
from ganshrink.recipe import NetConfig, TeacherConfig
from ganshrink.run import Artefacts, Run, Stage, tensors_hash
from ganshrink.tasks import Direction, Task

logger = logging.getLogger(__name__)


def trained_teacher(
    run: Run,
    net: NetConfig,
    config: TeacherConfig,
    task: Task,
    images: Images,
    *,
    direction: Direction = "AtoB",
    progress: bool,
) -> Nets:
    """The teacher "G" and, where there is one, its discriminator "D", in eval mode: the stage `teacher` of the run.

    Args:
        direction: which of its generators, where the task trains both ways.
    """
    generator = nets.build(net.name, **net.options)
    if config.weights is not None:
        return _given_teacher(run, net, config, task, images, generator, direction)
    if task.needs_teacher:
        raise ValueError(
            f"{net.name} is to be taught by itself, but there are no trained weights: set teacher.weights"
        )
    trained = task.nets(generator, images.in_channels, images.out_channels)
    stamp: dict[str, Any] = {"net": net.model_dump(), **describe(task, images, config)}
    stamp["task"] = {key: value for key, value in stamp["task"].items() if key not in task.student_settings}
    start: Artefacts = {}
    if config.start is not None:
        stage = _finished_teacher(config.start, setting="teacher.start")
        start = {
            name: _read("teacher.start", stage / f"{name}.safetensors", network)
            for name, network in trained.items()
        }
        stamp["start"] = {name: tensors_hash(state) for name, state in start.items()}

    def make(stage: Stage) -> Artefacts:
        logger.info("training the teacher, %s", net.name)
        fresh = task.nets(initialise(generator), images.in_channels, images.out_channels)
        for name, state in start.items():
            fresh[name].load_state_dict(state)
        fit_nets(stage, fresh, task, images, config, progress=progress)
        return {name: network.state_dict() for name, network in fresh.items()}

    # `after`: on nothing, itself included, where it is called for a second direction.
    weights = run.stage("teacher", make, made_from=stamp, after=())
    return task.one_way(_loaded(trained, weights), direction)


def _given_teacher(
    run: Run,
    net: NetConfig,
    config: TeacherConfig,
    task: Task,
    images: Images,
    generator: nn.Module,
    direction: Direction,
) -> Nets:
    """A teacher that comes from files, or from another run's folder."""
    assert config.weights is not None
    files: dict[str, Path | None] = {"G": config.weights, "D": config.discriminator}
    if config.weights.is_dir():
        files = _files_of_run(config.weights, direction)
        files["D"] = config.discriminator or files["D"]
    given: Nets = {"G": generator}
    judged = task.distilling(generator).nets(generator, images.in_channels, images.out_channels)
    if files["D"] is not None and "D" in judged:
        given["D"] = judged["D"]
    elif config.discriminator is not None:
        raise ValueError("teacher.discriminator is given, but this task has none: remove it")
    settings = {"G": "teacher.weights", "D": "teacher.discriminator"}
    states = {name: _read(settings[name], files[name], network) for name, network in given.items()}
    hashes = {name: tensors_hash(state) for name, state in states.items()}
    weights = run.stage(
        "teacher", lambda stage: dict(states), made_from={"net": net.model_dump(), "weights": hashes}
    )
    return _loaded(given, weights)


def _files_of_run(folder: Path, direction: Direction) -> dict[str, Path | None]:
    """What the teacher stage of a run left for one direction: "G", and "D" or none."""
    stage = _finished_teacher(folder, setting="teacher.weights")
    way = "A" if direction == "AtoB" else "B"
    files: dict[str, Path | None] = {}
    for name in ("G", "D"):
        candidates = [stage / f"{name}.safetensors", stage / f"{name}_{way}.safetensors"]
        files[name] = next((file for file in candidates if file.is_file()), None)
    return files


def _finished_teacher(folder: Path, *, setting: str) -> Path:
    """The teacher stage of a run."""
    stage = folder.absolute() / "stages" / "teacher"
    if not (stage / "done.json").is_file():
        raise ValueError(f"{setting}: {folder} is not the folder of a run with a finished teacher")
    return stage


def _loaded(networks: Nets, weights: Artefacts) -> Nets:
    """The networks with their weights, in eval mode."""
    for name, network in networks.items():
        network.load_state_dict(weights[name])
        network.eval()
    return networks


def _read(setting: str, path: Path | None, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of the weights file that a setting names; a relative path starts from `GANSHRINK_WEIGHTS`."""
    assert path is not None
    file = find_weights(path, origin=f"{setting} names it; leave it out to train the teacher here")
    return nets.load_weights(file, network, setting=setting)
