"""A run's networks scored: metrics.json, and what its values are made of, so that runs are compared picture by picture."""

import copy
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor, nn

from ganshrink.data import Images
from ganshrink.data.images import offered_by
from ganshrink.data.passes import all_batches
from ganshrink.metrics import Metric, MetricsConfig, Value, build, evaluate, give_reals
from ganshrink.metrics.resampling import Parts
from ganshrink.metrics.value import parts_of, with_interval
from ganshrink.system.spelling import one_line
from ganshrink.system.values import converting
from ganshrink.training.stages import Run, save_tensors, tensors_hash
from ganshrink.workflow.floors import floors
from ganshrink.workflow.missing import found
from ganshrink.workflow.outputs import SCORES
from ganshrink.workflow.protocol import Trained, reals_of, said_of

logger = logging.getLogger(__name__)


def write_metrics(
    run: Run,
    networks: Mapping[str, nn.Module],
    images: Images,
    config: MetricsConfig,
    split: str,
    *,
    trained: Trained,
) -> dict[str, Any]:
    """metrics.json: every metric of every network on the same images, each value with its protocol, which says by the
    start of their fingerprint ("data") what images these were, and what else `said_of` says. And scores.safetensors.

    Besides the networks what nobody has to learn is scored (`floors`), by its distance to the teacher's picture as well: a
    student must be better than the untouched input, the mean picture, and itself before its training.

    Args:
        trained: what the networks were trained on.
    """
    metrics = build(config, split=split, offered=offered_by(images))
    values: dict[str, Any] = {}
    kept: dict[str, dict[str, Parts]] = {}
    names: list[str] = []
    failed: dict[str, str] = {}
    said = said_of(images, trained, networks.values(), config)
    give_reals(metrics, reals_of(images, trained, config))
    beside = floors(networks, images) if metrics else {}
    for name, network in {**beside, **networks}.items():
        teacher = networks["teacher"] if name != "teacher" else None
        what = f"the {name}" if name in networks else f"what nobody has to learn ({name})"
        logger.info("evaluating %s on %d images", what, min(len(images), config.limit or len(images)))

        def scored(
            judges: Sequence[Metric], network: nn.Module = network, teacher: Any = teacher
        ) -> dict[str, tuple[Value, Parts]]:
            passed: list[str] = []
            batches = _noting(all_batches(images, config.batch_size), passed)
            truncate = config.quantisation == "truncate"
            options: dict[str, Any] = {"limit": config.limit, "truncate": truncate}
            made = _with_parts(judges, evaluate(network, batches, judges, teacher=teacher, **options))
            names[:] = passed[: config.limit] or names  # nothing passes where no metric is of this network
            return made

        try:
            of_network = scored(metrics)
        except Exception:  # one of them: each alone tells which
            of_network = {}
            for metric in metrics:
                try:
                    of_network |= scored([metric])
                except Exception as error:
                    if name in networks:
                        failed.setdefault(metric.name, one_line(error))
        values[name] = {
            metric: replace(value, protocol={**value.protocol, **said}).to_json()
            for metric, (value, _) in of_network.items()
        }
        kept[name] = {metric: parts for metric, (_, parts) in of_network.items()}
    _write_parts(run.path / SCORES, kept, names)
    run.write("metrics.json", values)
    if failed:
        raise ValueError("; ".join(f"no {metric}: {reason}" for metric, reason in failed.items()))
    found(run, "metrics.json")
    return values


def _noting(batches: Iterable[dict[str, Any]], names: list[str]) -> Iterator[dict[str, Any]]:
    """The batches; names of the pictures made of them are noted as they pass."""
    for batch in batches:
        names += batch["name"]
        yield batch


def _with_parts(metrics: Sequence[Metric], values: Mapping[str, Value]) -> dict[str, tuple[Value, Parts]]:
    """Values with their intervals, and what they are made of."""
    found: dict[str, tuple[Value, Parts]] = {}
    for metric in metrics:
        if metric.name in values:
            parts = parts_of(metric)
            found[metric.name] = with_interval(values[metric.name], metric, parts), parts
    return found


@dataclass(frozen=True)
class Scores:
    """What the values of a run are made of.

    Attributes:
        parts: by network and metric; a metric that keeps none is left out.
        names: of the pictures, in the order of the parts' first axis.
    """

    parts: Mapping[str, Mapping[str, Parts]]
    names: list[str]


def read_scores(folder: Path) -> Scores:
    """What the values in a run's metrics.json are made of, picture by picture.

    Raises:
        FileNotFoundError: the run does not have it.
    """
    if not (folder / SCORES).is_file():
        raise FileNotFoundError(
            f"{folder} has no {SCORES}, by which pictures are compared: `ganshrink evaluate {folder}` makes it"
        )
    values = json.loads((folder / "metrics.json").read_bytes())
    parts: dict[str, dict[str, dict[str, Tensor]]] = {}
    with safe_open(folder / SCORES, "pt") as file:
        told = file.metadata()
        same = json.loads(told["same"])
        for key in (*file.keys(), *same):
            network, rest = key.split("/", 1)
            metric, part = rest.rsplit("/", 1)
            if metric in values.get(network, {}):
                of_metric = parts.setdefault(network, {}).setdefault(metric, {})
                of_metric[part] = file.get_tensor(same.get(key, key))
    return Scores(parts, json.loads(told["names"]))


def _write_parts(path: Path, kept: Mapping[str, Mapping[str, Parts]], names: Sequence[str]) -> None:
    """scores.safetensors: NETWORK/METRIC/PART; what is the same for many is kept once, and named in `same`."""
    tensors: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    by_hash: dict[str, str] = {}
    for network, metrics in kept.items():
        for metric, parts in metrics.items():
            for part, tensor in parts.items():
                key = f"{network}/{metric}/{part}"
                first = by_hash.setdefault(tensors_hash({"": tensor}), key)
                if first == key:
                    tensors[key] = tensor
                else:
                    same[key] = first
    save_tensors(path, tensors, {"same": json.dumps(same), "names": json.dumps(names)})


def score(
    generator: nn.Module,
    images: Images,
    metrics: MetricsConfig | Sequence[str] | None = None,
    *,
    teacher: nn.Module | None = None,
) -> dict[str, Value]:
    """Score a generator on a data set: each metric's value with its protocol.

    Args:
        generator: (B, C, H, W), or several inputs, to images (B, 3, H, W) in [-1, 1].
        images: held-out images.
        metrics: names, or the full settings; none: PSNR and SSIM.
        teacher: for metrics of agreement.
    """
    if metrics is None:
        metrics = MetricsConfig()
    try:
        config = metrics if isinstance(metrics, MetricsConfig) else MetricsConfig(names=tuple(metrics))
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    generator = converting(copy.copy(generator))
    teacher = None if teacher is None else converting(copy.copy(teacher))
    batches = all_batches(images, config.batch_size)
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))
    judges = build(config, device, split="as given", offered=offered_by(images))
    if config.reals != "scored":
        raise ValueError(
            f"metrics.reals = {config.reals!r} needs training images, which are not given here: score a run"
        )
    options: dict[str, Any] = {"limit": config.limit, "truncate": config.quantisation == "truncate"}
    values = evaluate(generator, batches, judges, teacher=teacher, device=device, **options)
    return {name: value for name, (value, _) in _with_parts(judges, values).items()}
