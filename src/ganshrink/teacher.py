"""Where a recipe's teacher comes from: weights that it names, or a training."""

import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.channels import initialise
from ganshrink.data import Images
from ganshrink.job import Nets, describe, fit_nets
from ganshrink.metrics.weights import find_weights
from ganshrink.recipe import NetConfig, TeacherConfig
from ganshrink.run import Artefacts, Run, Stage, tensors_hash
from ganshrink.tasks import Task

logger = logging.getLogger(__name__)


def trained_teacher(
    run: Run, net: NetConfig, config: TeacherConfig, task: Task, images: Images, *, progress: bool
) -> Nets:
    """The teacher and, where there is one, its discriminator, in eval mode: the stage `teacher` of the run."""
    generator = nets.build(net.name, **net.options)
    nets_of_task = task.nets(generator, images.in_channels, images.out_channels)
    if config.weights is None:
        stamp: dict[str, Any] = {"net": net.model_dump(), **describe(task, images, config)}

        def make(stage: Stage) -> Artefacts:
            logger.info("training the teacher, %s", net.name)
            fresh = task.nets(initialise(generator), images.in_channels, images.out_channels)
            fit_nets(stage, fresh, task, images, config, progress=progress)
            return {name: network.state_dict() for name, network in fresh.items()}

    else:
        states = {"G": _read("teacher.weights", config.weights, generator)}
        if config.discriminator is not None:
            states["D"] = _read("teacher.discriminator", config.discriminator, nets_of_task["D"])
        stamp = {
            "net": net.model_dump(),
            "weights": {name: tensors_hash(state) for name, state in states.items()},
        }

        def make(stage: Stage) -> Artefacts:
            return dict(states)

    weights = run.stage("teacher", make, made_from=stamp)
    trained = {name: nets_of_task[name] for name in weights}
    for name, network in trained.items():
        network.load_state_dict(weights[name])
        network.eval()
    return trained


def _read(setting: str, path: Path, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a safetensors file that fit a network.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or holds another network; the first tensor that differs is named.
    """
    path = find_weights(path, origin=f"{setting} names it; leave it out to train the teacher here")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{setting}: {path} is not a readable safetensors file: {error}") from None
    own = network.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state or name not in own:
            where = "the network" if name not in own else "the file"
            raise ValueError(f"{setting}: {path} does not fit: {where} has no {name!r}; check [net]")
        if own[name].shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the network"
            raise ValueError(f"{setting}: {path} does not fit: {name!r} is {shapes}; check [net]")
    return state
