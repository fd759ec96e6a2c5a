"""Where a recipe's teacher comes from: weights that it names, or a training."""

import logging
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganshrink import nets
from ganshrink.data import Images
from ganshrink.metrics.weights import find_weights
from ganshrink.nets.branches import branched, merged
from ganshrink.pruning import initialise
from ganshrink.system.values import Values, raw, values_of
from ganshrink.training.stages import Artefacts, Run, Stage, finished_stage, tensors_hash
from ganshrink.training.stamps import sources
from ganshrink.training.tasks import Direction, Task
from ganshrink.training.train import Nets, describe, fit_nets
from ganshrink.training.validation import Validation
from ganshrink.workflow.net_config import NetConfig
from ganshrink.workflow.recipe import TeacherConfig
from ganshrink.workflow.values import built, values_for

logger = logging.getLogger(__name__)


def trained_teacher(
    run: Run,
    net: NetConfig,
    config: TeacherConfig,
    task: Task,
    images: Images,
    *,
    values: Values | None = None,
    direction: Direction = "AtoB",
    validation: Validation | None = None,
    begin: Callable[[], None],
    progress: bool,
) -> Nets:
    """The teacher "G" and, where there is one, its discriminator "D", in eval mode: the stage `teacher` of the run.

    Args:
        values: what the network takes and gives by itself.
        direction: which of its generators, where the task trains both ways.
        validation: what it is scored on while it is trained; none: it is not.
        begin: called once nothing can be refused any more, before anything is written.
    """
    generator = built(net, values)
    if config.weights is not None:
        given = _given(config, task, images, generator, direction)
        begin()
        return _kept(run, net, given)
    if task.needs_teacher:
        raise ValueError(
            f"{net.name} is to be taught by itself, but there are no trained weights: set teacher.weights"
        )
    trained = task.nets(generator, images.in_channels, images.out_channels)
    stamp: dict[str, Any] = {"net": _stamp(net, generator), **describe(task, images, config, validation)}
    stamp["task"] = {key: value for key, value in stamp["task"].items() if key not in task.student_settings}
    start: Artefacts = {}
    if config.start is not None:
        start = _stage_of("teacher.start", config.start)
        _loaded(trained, start, of=f"teacher.start: {config.start}")
        stamp["start"] = {name: tensors_hash(start[name]) for name in trained}

    def make(stage: Stage) -> Artefacts:
        logger.info("training the teacher, %s", net.name)
        fresh = built(net, values)  # here, where the seed is set: some of it no `initialise` touches
        fresh = initialise(fresh if start else branched(fresh))
        whole = task.nets(fresh, images.in_channels, images.out_channels)
        if start:
            _loaded(whole, start, of="teacher.start")
        fit_nets(stage, whole, task, images, config, validation=validation, progress=progress)
        return {name: merged(network).state_dict() for name, network in whole.items()}

    begin()
    # `after`: on nothing, itself included, where it is called for a second direction.
    weights = run.stage("teacher", make, made_from=stamp, after=())
    return task.one_way(_loaded(trained, weights, of="the teacher stage"), direction)


def _given(
    config: TeacherConfig, task: Task, images: Images, generator: nn.Module, direction: Direction
) -> Nets:
    """A teacher that comes from files, or from another run's folder."""
    assert config.weights is not None
    given: Nets = {"G": generator}
    judged = task.as_student_task(generator).nets(generator, images.in_channels, images.out_channels).get("D")
    if config.discriminator is not None and judged is None:
        raise ValueError("teacher.discriminator is given, but this task has none: remove it")
    if config.weights.is_dir():
        stage = _of_way(config.weights, direction)
        _loaded(given, stage, of=f"teacher.weights: {config.weights}")
        if judged is not None and "D" in stage and config.discriminator is None:
            try:
                given["D"] = _loaded({"D": judged}, stage, of=str(config.weights))["D"]
            except ValueError as error:
                logger.warning("its discriminator is not taken: %s", error)
    else:
        generator.load_state_dict(_read("teacher.weights", config.weights, generator))
    if config.discriminator is not None and judged is not None:
        judged.load_state_dict(_read("teacher.discriminator", config.discriminator, judged))
        given["D"] = judged
    return given


def _kept(run: Run, net: NetConfig, given: Nets) -> Nets:
    """Networks with their weights, kept as the stage `teacher`, in eval mode."""
    states = {name: network.state_dict() for name, network in given.items()}
    hashes = {name: tensors_hash(state) for name, state in states.items()}
    weights = run.stage(
        "teacher", lambda stage: dict(states), made_from={"net": _stamp(net, given["G"]), "weights": hashes}
    )
    return _loaded(given, weights, of="the teacher stage")


def _stamp(net: NetConfig, generator: nn.Module) -> dict[str, Any]:
    """A recipe's network: name and options, and the source of what is not this package's."""
    own = sources(nets.maker(net.name), generator) if net.name not in nets.NETS else {}
    values = values_of(generator)
    said = {} if values is None else {"values": values.model_dump(mode="json")}
    return {**net.model_dump(mode="json"), **said, **({"own": own} if own else {})}


def _of_way(folder: Path, direction: Direction) -> Artefacts:
    """What the teacher stage of a run left for one direction: "G" and, where there is one, "D".

    Raises:
        ValueError: if the run's teacher goes the other way alone.
    """
    stage = _stage_of("teacher.weights", folder)
    if "G" not in stage:  # trained both ways
        way = "A" if direction == "AtoB" else "B"
        return {name: stage[f"{name}_{way}"] for name in ("G", "D")}
    file = folder / "recipe.toml"
    data = tomllib.loads(file.read_text(encoding="utf-8")).get("data", {}) if file.is_file() else {}
    if data.get("direction", direction) != direction:
        raise ValueError(
            f"teacher.weights: the teacher of {folder} goes {data['direction']}, this recipe {direction}: "
            "set data.direction, or name another run"
        )
    return stage


def _stage_of(setting: str, folder: Path) -> Artefacts:
    try:
        return finished_stage(folder, "teacher")
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None


def _loaded(networks: Nets, weights: Artefacts, *, of: str) -> Nets:
    """The networks with their weights, in eval mode.

    Raises:
        ValueError: if they do not fit; the message begins with `of`.
    """
    for name, network in networks.items():
        try:
            network.load_state_dict(weights[name])
        except KeyError:
            raise ValueError(f"{of} holds no {name!r}: was it made by another task?") from None
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(f"{of} does not fit: {name}: {reason}; check [net] and [task]") from None
        network.eval()
    return networks


def _read(setting: str, path: Path, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of the weights file that a setting names; a relative path starts from `GANSHRINK_WEIGHTS`."""
    if not path.suffix:
        raise FileNotFoundError(
            f"{setting}: there is no run folder {path} (folders start at the working directory)"
        )
    named, key = nets.split_key(path)
    file = find_weights(named, origin=f"{setting} names it; leave it out to train the teacher here")
    return nets.load_weights(f"{file}:{key}" if key else file, raw(network), setting=setting)


def recipe_values(net: NetConfig, config: TeacherConfig, images: Images) -> Values | None:
    """What a recipe's network takes and gives by itself; see `values_for`. Weights that it names are looked at."""
    network = nets.build(net.name, **net.options)
    trained = config.weights is not None and not config.weights.is_dir()
    if trained and config.weights is not None:
        network.load_state_dict(_read("teacher.weights", config.weights, network))
    return values_for(net, network, images, trained=trained)
