"""Writes docs/reference.md from the code: `python docs/reference.py`. A test compares the two."""

import inspect
import re
import runpy
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_overloads, get_type_hints

import torch
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganshrink import nets
from ganshrink.cli.main import app
from ganshrink.comparison.matrix import Matrix
from ganshrink.data import DATASETS, Counts, DataConfig
from ganshrink.exporters import EXPORTERS
from ganshrink.methods import METHODS
from ganshrink.methods.base import Settings
from ganshrink.metrics import METRICS, MetricsConfig
from ganshrink.metrics.config import NEEDS
from ganshrink.quant import QuantizationConfig
from ganshrink.training.tasks import TASKS
from ganshrink.training.train import Training
from ganshrink.workflow.recipe import (
    ExportConfig,
    LatencyConfig,
    NetConfig,
    Recipe,
    StudentConfig,
    TeacherConfig,
)

PAGE = Path(__file__).with_suffix(".md")
TEXT = Path(__file__).with_name("reference.txt")

SPAN = re.compile(r"`[^`]+`|\[[^\]]+\]\([^)]+\)")
UNBROKEN = "\x00"  # stands for a space at which a line may not end

Table = tuple[str, type[BaseModel], str]  # its title, its settings, what it is


def _tables() -> Iterator[Table]:
    """Every table of a recipe. What a task or method is stands beside it."""
    yield "(top of the file)", Recipe, "before any table"
    yield (
        "[net]",
        NetConfig,
        "the original generator; every other key is an option of the network (see Networks)",
    )
    yield "[data]", DataConfig, "the images (see Data sets)"
    yield "[data.counts]", Counts, "how large the drawn data set is"
    for name, task in TASKS.items():
        yield f'[task] name = "{name}"', task.Config, _about(task)
    for name, method in METHODS.items():
        config = get_type_hints(method)["config"]
        page = PAGE.with_name(f"{name.replace('_', '-')}.md")
        link = f"; see [{page.name}]({page.name})" if page.is_file() else ""
        yield f'[method] name = "{name}"', config, _about(method) + link
        for key, field in config.model_fields.items():
            for kind in (field.annotation, *get_args(field.annotation)):
                if hasattr(kind, "model_fields") and not issubclass(kind, Settings):
                    yield f"[method.{key}] of `{name}`", kind, _about(kind)
    yield "[teacher]", TeacherConfig, "how the teacher comes to be; these keys and those of [student]"
    yield (
        "[student]",
        StudentConfig,
        "how the student is trained; what it leaves open is as in [teacher]; [student.net] is another network than the "
        "teacher's for it, with keys as in [net], see [student-net.md](student-net.md)",
    )
    yield "[metrics]", MetricsConfig, "how networks are scored"
    yield "[export]", ExportConfig, "how the student is exported"
    yield "[latency]", LatencyConfig, "how networks are timed"
    yield "[quantization]", QuantizationConfig, "the student in integers, see [int8.md](int8.md)"
    yield "A matrix of `ganshrink compare`", Matrix, "what is compared, see [compare.md](compare.md)"


def _about(thing: Any) -> str:
    """The first sentence of a docstring, as a clause."""
    return _first_sentence(thing).split(". ")[0].removesuffix(".")


API = [
    "trace",
    "prune",
    "extract",
    "reconstruct",
    "compress",
    "train",
    "load",
    "save_pretrained",
    "from_pretrained",
    "predict",
    "evaluate",
    "export",
    "quantize",
    "measure",
    "compare",
    "report",
    "Budget.parse",
    "Plan.random",
    "Plan.to_json",
    "Plan.from_json",
    "nets.build",
    "pruning.add_affine",
    "pruning.zeroed",
    "pruning.initialise",
    "pruning.Channels.cost",
    "pruning.allocate.bisect_threshold",
    "pruning.scores.norm_scale",
    "pruning.scores.l2",
    "data.open_dataset",
    "data.open_unlabelled",
    "comparison.compare.compare_runs",
    "workflow.recipe.read_recipe",
    "workflow.demo.demo_run",
    "workflow.lint.lint_net",
    "deploy.goldens.verify",
    "workflow.dry_run.dry_run",
    "workflow.verbs.load_networks",
    "workflow.verbs.profile_device",
    "metrics.released.fetch",
]


def page() -> str:
    """The whole page."""
    parts = {
        "verbs": _verbs(),
        "keys": _keys(),
        "datasets": _entries(_listed(DATASETS)),
        "networks": _networks(),
        "pairs": _pairs(),
        "metrics": _entries(_metrics()),
        "exporters": _entries(_exporters()),
        "api": _entries(_api()),
    }
    return TEXT.read_text().format(**parts)


def _verbs() -> str:
    verbs = []
    for name, verb in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        usage, rows = [f"ganshrink {name}"], []
        for param in verb.params:
            if param.param_type_name == "argument":
                usage.append(param.metavar)
                rows.append((f"`{param.metavar}`", param.help))
            elif param.name != "help":
                words = ", ".join(f"`{word}`" for word in (*param.opts, *param.secondary_opts))
                default = f" (default {param.default})" if type(param.default) in (int, float) else ""
                rows.append((words, f"{param.help}{default}"))
        about = [
            f"### `{' '.join(usage)}`",
            _wrapped(verb.help),
            *map(_wrapped, (verb.epilog or "").split("\n\n")),
            _entries(rows),
        ]
        verbs.append("\n\n".join(text for text in about if text))
    return "\n\n".join(text.strip() for text in verbs)


def _keys() -> str:
    sections = []
    for title, table, about in _tables():
        known = set(Training.model_fields) if table is TeacherConfig else set()
        rows = _rows(table, known)
        sections.append(f"### {title}\n\n{_wrapped(f'{about[0].upper()}{about[1:]}.')}\n\n{_entries(rows)}")
    return "\n\n".join(sections)


def _rows(table: type[BaseModel], known: Collection[str] = (), prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each key and its meaning; those in the table of a stage as `search.floor`."""
    for name, field in sorted(table.model_fields.items(), key=lambda item: item[0] != "name"):
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            yield from _rows(kind, prefix=f"{name}.")
        elif name not in known and not _is_table(kind):
            yield f"`{prefix}{name}` ({_kind(kind)}, {_default(field.default)})", field.description or ""


def _is_table(kind: Any) -> bool:
    kinds = (kind, *get_args(kind))
    return any(hasattr(k, "model_fields") or type(k).__name__ == "TypeVar" for k in kinds)


def _kind(kind: Any) -> str:
    """A type in words of TOML."""
    if kind is type(None):
        return "none"
    if hasattr(kind, "__metadata__"):
        return _kind(kind.__origin__)
    words = {
        Any: "string",
        str: "string",
        int: "whole number",
        float: "number",
        bool: "true or false",
        Path: "path",
    }
    if kind in words:
        return words[kind]
    arguments = get_args(kind)
    origin = getattr(kind, "__origin__", None)
    if origin is tuple:
        return "list of " + " and ".join(dict.fromkeys(_kind(a) + "s" for a in arguments if a is not ...))
    if origin is dict:
        return f"table, each value a {_kind(arguments[1])}"
    if origin is not None and str(origin) == "typing.Literal":
        return " or ".join(f'"{a}"' for a in arguments)
    return " or ".join(_kind(a) for a in arguments if a is not type(None))


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "default none"
    return f"default `{str(value).lower() if isinstance(value, bool) else value}`"


def _networks() -> str:
    rows = []
    for name in nets.NETS:
        options = {
            k: v for k, v in nets.net_options(name).items() if k not in ("in_channels", "out_channels")
        }
        params, exact, paper = _counts(name)
        shown = ", ".join(f"`{key}={'none' if value is None else value}`" for key, value in options.items())
        rows.append(
            (f"`{name}`", f"{params:,} parameters, {exact:,} MACs, {paper:,} in the paper's way. {shown}")
        )
    return _entries(rows)


def _pairs() -> str:
    """Which method makes which generator small, as the tests have it."""
    pairs = runpy.run_path(str(PAGE.parent.parent / "tests/methods/pairs.py"))
    reasons = list(dict.fromkeys(pairs["REFUSED"].values()))
    lines = [f"| network | {' | '.join(METHODS)} |", f"| --- |{' --- |' * len(METHODS)}"]
    for name in pairs["NETWORKS"]:
        told = (pairs["REFUSED"].get((method, name)) for method in METHODS)
        cells = ("yes" if reason is None else str(1 + reasons.index(reason)) for reason in told)
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    if reasons:
        lines += ["", *(_wrapped(f"{place}. {reason}", "   ") for place, reason in enumerate(reasons, 1))]
    return "\n".join(lines)


def _counts(name: str) -> tuple[int, int, int]:
    """Parameters and both kinds of MACs at 256 x 256, or of a latent vector, without computing anything."""
    options = nets.net_options(name)
    with torch.device("meta"):
        network = nets.build(name).requires_grad_(False)
        example = (
            torch.zeros(1, options["latent"])
            if "latent" in options
            else torch.zeros(1, options["in_channels"], 256, 256)
        )
    more = []

    def output_resolution(module: nn.Module, given: Any, made: torch.Tensor) -> None:
        if isinstance(module, nn.ConvTranspose2d):
            more.append(module.weight.numel() * (made[0, 0].numel() - given[0][0, 0].numel()))

    for module in network.modules():
        module.register_forward_hook(output_resolution)
    with FlopCounterMode(display=False) as counter:
        network(example)
    exact = counter.get_total_flops() // 2
    return sum(p.numel() for p in network.parameters()), exact, exact + sum(more)


def _metrics() -> Iterator[tuple[str, str]]:
    for name, metric in METRICS.items():
        yield f"`{name}` ({metric.better} is better; needs {NEEDS[metric.needs]})", metric.about


def _listed(parts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, part in parts.items():
        yield f"`{name}`", _about(part)


def _exporters() -> Iterator[tuple[str, str]]:
    for name, exporter in EXPORTERS.items():
        yield f"`{name}` (`{exporter.file}`)", exporter.about


def _api() -> Iterator[tuple[str, str]]:
    for path in API:
        thing: Any = import_module("ganshrink")
        for part in path.split("."):
            thing = (
                getattr(thing, part) if hasattr(thing, part) else import_module(f"{thing.__name__}.{part}")
            )
        for form in get_overloads(thing) or [thing]:
            yield f"`{path}{_call(form)}`", _first_sentence(thing)


def _call(function: Callable[..., Any]) -> str:
    """Its parameters without types; a long default is left out."""
    bare = [
        p.replace(
            annotation=p.empty,
            default=... if p.default is not p.empty and len(repr(p.default)) > 60 else p.default,
        )
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]
    return str(inspect.Signature(bare)).replace("Ellipsis", "...")


def _first_sentence(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _entries(rows: Iterable[tuple[str, str]]) -> str:
    """A list, one entry for each thing and its meaning."""
    entries = (_wrapped(f"- {thing}: {meaning}", "  ") for thing, meaning in rows)
    return "\n".join(entry.removesuffix(":") for entry in entries)


def _wrapped(text: str, indent: str = "") -> str:
    """Lines of at most 100 columns; a short code span or link is not broken."""
    kept = SPAN.sub(lambda span: span[0].replace(" ", UNBROKEN) if len(span[0]) < 75 else span[0], text)
    lines = textwrap.wrap(
        " ".join(kept.split()), 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace(UNBROKEN, " ")


if __name__ == "__main__":
    PAGE.write_text(page())
