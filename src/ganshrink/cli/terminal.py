"""What the command line shows: answers, tables of settings and figures, and the log.

Rich is imported where it draws: most verbs of a script draw nothing.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from ganshrink.cli.exit import FOLLOWS

LAYERS = 6  # named of a finding


def answer(value: Any, as_json: bool, text: str) -> None:
    """What a verb found, for a program or for a person; of several processes, the first alone answers."""
    if not FOLLOWS:
        typer.echo(json.dumps(value, indent=2) if as_json else text)


def show_settings(settings: Iterable[Any]) -> None:
    """Every setting, table by table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "key", "value", "from", "meaning", box=None, pad_edge=False)
    table.columns[2].max_width = 40
    tables: dict[str, list[Any]] = {}
    for setting in settings:
        tables.setdefault(setting.key.rpartition(".")[0], []).append(setting)
    for name, rows in tables.items():
        if name:
            table.add_row()
            table.add_row("", Text(f"[{name}]", "bold"))
        rows.sort(key=lambda setting: not setting.key.endswith(".name"))  # what a table is comes first
        for key, value, origin, changed, meaning in rows:
            shown = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            cells = (key.rpartition(".")[2], shown, origin, meaning)
            style = "bold" if changed else ""
            table.add_row("*" if changed else "", *(Text(cell, style) for cell in cells))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)
    console.print(
        "\n* differs from the default. Change a value as table.key=value, or in the recipe.", markup=False
    )


def show_table(head: Iterable[str], rows: Iterable[Iterable[str]], *, title: str | None = None) -> None:
    """A table of text."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def show_scores(metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Every metric of every network."""
    names = dict.fromkeys(name for values in metrics.values() for name in values)
    scores = ([_score(metrics[net].get(name)) for net in metrics] for name in names)
    show_table(("metric", *metrics), ([name, *row] for name, row in zip(names, scores, strict=True)))


def estimated(found: Mapping[str, Any]) -> str:
    """What a dry run found, a line for each stage, then all together."""
    from ganshrink.reports.numbers import duration, file_size, integer

    lines = []
    for stage in found["stages"]:
        trained = (
            f", {integer(stage['steps'])} steps of {stage['images'] // stage['steps']} images"
            if "steps" in stage
            else ""
        )
        lines.append(f"{stage['name']}: {duration(stage['seconds'])}{trained}")
    lines += [
        f"{what}: {duration(found[what])}" for what in ("scoring", "exporting", "timing") if found[what]
    ]
    memory = ", ".join(f"{file_size(amount)} of {where} memory" for where, amount in found["memory"].items())
    lines.append(
        f"in all about {duration(found['seconds'])}, {file_size(found['disk'])} of disk, {memory}; by "
        f"{found['timed_steps']} timed steps of each training"
    )
    return "\n".join(lines)


def linted(found: Mapping[str, Any]) -> str:
    """What `lint` found, a paragraph each, the gravest first."""
    lines = []
    for one in found["findings"]:
        layers = one["layers"]
        more = f" and {len(layers) - LAYERS} more" if len(layers) > LAYERS else ""
        lines.append(
            f"{one['severity']:5}  {one['target']}: {one['operator']} at {', '.join(layers[:LAYERS])}{more}: "
            f"{one['happens']}"
        )
        ways = [f"net.{name} = {' or '.join(values)}" for name, values in one["option"].items()]
        lines.append(f"       do: {'; or '.join([*ways, one['remedy']])}")
        known = [one["reference"] or "", f"seen in {one['seen']}" if one["seen"] else ""]
        if any(known):
            lines.append(f"       ({'; '.join(filter(None, known))})")
    clean = [name for name in found["targets"] if name not in {one["target"] for one in found["findings"]}]
    if clean:
        lines.append(f"nothing known against: {', '.join(clean)}")
    if pattern := found["checkerboard"]:
        weights = "" if found["trained"] else " with fresh weights, which training changes,"
        lines.append(
            f"checkerboard:{weights} {pattern['share']:.1%} of what varies in outputs on smooth pictures repeats every "
            f"{pattern['period']} pixels ({pattern['levels']:.2g} of 255 levels)"
        )
        if pattern["uneven"]:
            lines.append(
                f"       {', '.join(pattern['uneven'])}: kernels that their stride does not divide favour every other "
                "pixel; resize then convolve, or a kernel that it divides"
            )
    return "\n".join(lines)


def verified(found: Mapping[str, Any]) -> str:
    """What `verify` found, a line a file."""
    lines = []
    for row in found["files"]:
        said = row.get("error")
        if said is None:
            most, db = (
                f"{row[key]:.3g}" if row[key] is not None else "no number"
                for key in ("most_levels", "psnr_db")
            )
            said = f"at most {most} of 255 levels from {row['against']}, {db} dB (allowed: {row['allowed']})"
        lines.append(f"{'passed' if row['passed'] else 'FAILED'}  {row['file']} in {row['runtime']}: {said}")
    return "\n".join(lines)


def _score(entry: Mapping[str, Any] | None) -> str:
    """A value, and half of its interval."""
    if entry is None:
        return ""
    low, high = entry.get("interval") or (0.0, 0.0)
    return f"{entry['value']:.4f}" + (f" ± {(high - low) / 2:.2g}" if "interval" in entry else "")


def verdict_on(run: Path) -> str:
    """The verdict on a run, as its report has it."""
    from ganshrink.reports.page import VERDICT

    found = json.loads((run / VERDICT).read_text(encoding="utf-8"))
    return f"verdict: {found['grade']}. {found['sentence']}"


def show_examination(found: Mapping[str, Any]) -> None:
    """What `doctor` found, a line for each thing."""
    system, threads, test = found["system"], found["threads"], found["self_test"]
    lines = [("python", f"{system['python']}, {system['at']}"), ("system", system["system"])]
    lines += found["versions"].items()
    for name, extra in found["extras"].items():
        packages = [f"{module} {version}" for module, version in extra["present"].items()]
        lacking = [f"{module} is missing ({reason})" for module, reason in extra["missing"].items()]
        remedy = [extra["install"]] if lacking else []
        lines.append((f"extra {name}", "; ".join([*packages, *lacking, *remedy])))
    lines += [("device", device) for device in found["devices"]]
    lines.append(("threads", f"{threads['torch']} of {threads['cores']} cores"))
    if threads["OMP_NUM_THREADS"]:
        lines[-1] = ("threads", f"{lines[-1][1]}, OMP_NUM_THREADS={threads['OMP_NUM_THREADS']}")
    for name, folder in found["folders"].items():
        state = "" if folder["found"] else ", which is no folder"
        lines.append((name, f"{folder['path']}{state}" if folder["path"] else "not set"))
    outcome = "passed" if test["passed"] else f"FAILED: {test['problem']}"
    lines.append(("self-test", f"{outcome} ({test['seconds']:.1f} s)"))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        typer.echo(f"{name:{width}}  {text}")


def start_logging(quiet: bool) -> None:
    """The package's messages on stderr."""
    from rich.console import Console
    from rich.logging import RichHandler

    level = logging.ERROR if FOLLOWS else logging.WARNING if quiet else logging.INFO
    handler = RichHandler(console=Console(stderr=True), show_time=False, show_level=False, show_path=False)
    handler.addFilter(_Once())
    package = logging.getLogger("ganshrink")
    package.handlers[:] = [handler]
    package.setLevel(level)


class _Once(logging.Filter):
    """Leaves out a line that says what the line before said: a file or folder may be opened several times."""

    last: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        before, self.last = self.last, record.getMessage()
        return self.last != before
