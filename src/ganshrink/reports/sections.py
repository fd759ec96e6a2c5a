"""The page's sections below the table, as plain values for the template."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ganshrink.reports.differences import difference
from ganshrink.reports.files import RunFiles, Stage, data_uri, dicts, dig, image_uri, number
from ganshrink.reports.numbers import duration, file_size, integer
from ganshrink.reports.summary import network_names

ROWS = 24  # pictures beyond this many rows make the page heavy and tell nothing new
NAME = 21  # longer names lose their middle: what tells them apart stands at both ends
SAMPLED = 4  # times at which a stage's pictures are shown
DIFFERENCE = "difference"  # the column
COLUMNS_FROM = 16  # groups: more than so many stand in two columns


def gallery(run: RunFiles) -> dict[str, Any]:
    """Columns (input, networks, the student's difference from its teacher, target) and rows of `data:` URIs; `left_out`
    rows beyond the first two dozen."""
    rows = dicts(run.get("samples/samples.json"), "rows")
    present = dict.fromkeys(key for row in rows for key in row if key != "name")
    order = ["input", *network_names(run), *present, "target"]
    columns = [name for name in dict.fromkeys(order) if name in present and name != "target"]
    columns += ["target"] if "target" in present else []
    shown = [{column: data_uri(run, row.get(column)) for column in columns} for row in rows[:ROWS]]
    for images in shown:
        images[DIFFERENCE] = difference(images.get("teacher"), images.get("student"))
    if any(images[DIFFERENCE] for images in shown):
        columns.insert(columns.index("student") + 1, DIFFERENCE)
    named = [
        {"name": str(row.get("name", place)), "images": [images[column] for column in columns]}
        for place, (row, images) in enumerate(zip(rows, shown, strict=False))
    ]
    return {"columns": columns, "rows": named, "left_out": len(rows) - len(named)}


def sampled(run: RunFiles) -> list[dict[str, Any]]:
    """By stage and network the pictures that were made while it was trained: `title`, and `pictures` (step, `data:` URI), at
    most `SAMPLED` of them, the first and the last among them."""
    found = []
    for stage in run.stages:
        of: dict[str, list[Path]] = {}
        for path in stage.samples:
            step, _, network = path.stem.partition("_")
            if step.isdigit():
                of.setdefault(network, []).append(path)
        for network, paths in of.items():
            last = len(paths) - 1
            chosen = dict.fromkeys(round(last * n / (SAMPLED - 1)) for n in range(SAMPLED))
            pictures = [
                (int(paths[n].stem.split("_")[0]), image_uri(paths[n].parent, paths[n].name)) for n in chosen
            ]
            title = f"{stage.name}, {network}" if len(of) > 1 else stage.name
            found.append({"title": title, "pictures": [one for one in pictures if one[1]]})
    return found


def pair(gallery: dict[str, Any]) -> dict[str, str]:
    """The first picture's input, teacher and student, for the top of the page; nothing unless both networks' are there."""
    row = gallery["rows"][0]["images"] if gallery["rows"] else []
    images = dict(zip(gallery["columns"], row, strict=False))
    if not images.get("teacher") or not images.get("student"):
        return {}
    return {name: images[name] for name in ("input", "teacher", "student") if images.get(name)}


def widths(run: RunFiles) -> dict[str, Any]:
    """Groups and layers with kept and total width, in percent of the widest; groups in one or two columns. Blocks that the
    method inserted and the student has none of are `unused`, not `removed`."""
    plan = run.get("plan.json")
    groups = [_bar(group, "name", group.get("kept")) for group in dicts(plan, "groups")]
    layers = [
        _bar(
            {**layer, "path": f"{layer.get('path')} ({layer.get('axis', 'out')})"}, "path", len(layer["kept"])
        )
        for layer in dicts(plan, "layers")
        if isinstance(layer.get("kept"), list)
    ]
    for bars in (groups, layers):
        widest = max((bar["of"] for bar in bars), default=1) or 1
        for bar in bars:
            bar["track"] = 100 * bar["of"] / widest
            bar["fill"] = 100 * bar["kept"] / bar["of"] if bar["of"] else 0
    added = run.optional("result.json").get("inserted")
    paths = tuple(f"{path}." for path in added) if isinstance(added, list) else ()
    inserted = [bar for bar in groups if bar["name"].startswith(paths)] if paths else []
    unused = sum(bar["removed"] for bar in inserted)
    bases = list(dict.fromkeys(str(group["basis"]) for group in dicts(plan, "groups") if group.get("basis")))
    return {
        "groups": _columns(groups),
        "layers": _columns(layers),
        "kept": integer(sum(bar["kept"] for bar in groups)),
        "of": integer(sum(bar["of"] for bar in groups)),
        "count": len(groups),
        "removed": sum(bar["removed"] for bar in groups) - unused,
        "inserted": bool(inserted),
        "unused": unused,
        "bases": bases,
    }


def _bar(entry: dict[str, Any], key: str, kept: Any) -> dict[str, Any]:
    kept, total = (value if isinstance(value, int) else 0 for value in (kept, entry.get("of")))
    frozen = bool(entry.get("frozen"))
    name = str(entry.get(key))
    return {
        "name": name,
        "short": shortened(name),
        "kept": kept,
        "of": total,
        "removed": kept == 0,
        "frozen": frozen,
    }


def shortened(name: str) -> str:
    """A module's path without its middle, where it is long."""
    if len(name) <= NAME:
        return name
    parts = name.split(".")
    for first in range(3, len(parts)):  # the first two names of a path, and as many of the last as fit
        short = f"{parts[0]}.{parts[1]}…{'.'.join(parts[first:])}"
        if len(short) <= NAME:
            return short
    return f"{name[: NAME // 3]}…{name[-(NAME - NAME // 3 - 1) :]}"


def _columns(bars: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    half = (len(bars) + 1) // 2
    parts = [bars] if len(bars) <= COLUMNS_FROM else [bars[:half], bars[half:]]
    return [part for part in parts if part]


def frozen(run: RunFiles) -> list[dict[str, Any]]:
    """Reasons why groups kept their full width, each with the groups' names."""
    return _by_reason(run, "frozen", lambda group: True)


def statistics(run: RunFiles) -> list[dict[str, Any]]:
    """Norms over channels that lost some of them, each with the groups' names."""
    return _by_reason(run, "statistics", lambda group: group.get("kept") != group.get("of"))


def _by_reason(run: RunFiles, key: str, counts: Callable[[Mapping[str, Any]], bool]) -> list[dict[str, Any]]:
    reasons: dict[str, list[str]] = {}
    for group in dicts(run.get("plan.json"), "groups"):
        if group.get(key) and counts(group):
            reasons.setdefault(str(group[key]), []).append(f"{group.get('name')} ({group.get('of')})")
    return [{"reason": reason, "groups": names} for reason, names in reasons.items()]


def parity(run: RunFiles) -> list[dict[str, Any]]:
    """The exported files and how they compare with torch."""
    rows = []
    for name, entry in run.get("parity.json").items():
        if isinstance(entry, dict):
            psnr, diff, size = (number(entry, key) for key in ("psnr_db", "max_abs_diff", "bytes"))
            rows.append(
                {
                    "file": name,
                    "max_abs_diff": f"{diff:.3g}" if diff is not None else "–",
                    "psnr_db": f"{psnr:.1f} dB" if psnr is not None else "–",
                    "inputs": entry.get("inputs", entry.get("images", "–")),
                    "opset": entry.get("opset", "–"),
                    "range": _range(entry),
                    "bytes": file_size(size) if size is not None else "–",
                }
            )
    return rows


def formats(run: RunFiles) -> list[dict[str, str]]:
    """The student's files for other runtimes, by formats.json."""
    rows = []
    for entry in dicts(run.optional("formats.json"), "rows"):
        size, ratio = number(entry, "bytes"), number(entry, "latency", "ratio")
        left = dig(entry, "fell_back")
        told = (
            ", ".join(f"{name} ×{count}" for name, count in left.items()) if isinstance(left, dict) else "–"
        )
        rows.append(
            {
                "format": str(entry.get("format")),
                "file": str(entry.get("file")),
                "bytes": file_size(size) if size is not None else "–",
                "precision": str(entry.get("precision", "–")),
                "runtime": f"{entry.get('runtime', '')} {entry.get('version', '')}".strip() or "–",
                "parity": _compared(entry),
                "fell_back": told or "none",
                "speed": f"{ratio:.2f}×" if ratio is not None else "not measured",
            }
        )
    return rows


def _compared(entry: dict[str, Any]) -> str:
    """How far a file is from torch on pictures, in words."""
    most, mean, psnr = (number(entry, "pictures", key) for key in ("max_levels", "mean_levels", "psnr_db"))
    if most is None or mean is None or psnr is None:
        return str(entry.get("unchecked") or "no pictures")
    return f"at most {most:.2g}, {mean:.2g} on average; {psnr:.1f} dB"


def _range(entry: dict[str, Any]) -> str:
    """Black and white of what a file takes and gives."""
    taken, given = (str(entry.get(key, "–")) for key in ("input_values", "output_values"))
    return taken if taken == given else f"{taken} to {given}"


def protocols(run: RunFiles) -> list[dict[str, Any]]:
    """Every metric's protocol, once for all networks measured the same way; the latency's last."""
    rows: list[dict[str, Any]] = []
    for network, metrics in run.get("metrics.json").items():
        for name, entry in (metrics if isinstance(metrics, dict) else {}).items():
            facts = _facts(dig(entry, "protocol"))
            same = next((row for row in rows if row["metric"] == name and row["facts"] == facts), None)
            if same:
                same["networks"].append(network)
            else:
                rows.append({"metric": name, "networks": [network], "facts": facts})
    order = {name: place for place, name in enumerate(dict.fromkeys(row["metric"] for row in rows))}
    rows.sort(key=lambda row: order[row["metric"]])
    latency = run.get("latency.json")
    if latency:
        facts = [("device", str(latency.get("device", "unknown"))), *_facts(latency.get("protocol"))]
        rows.append({"metric": "latency", "networks": ["all"], "facts": facts})
    return rows


def trained_on(run: RunFiles) -> str:
    """How many of the images that were scored were trained on, by the protocols; empty where none was or it is unknown."""
    metrics = [scores for scores in run.get("metrics.json").values() if isinstance(scores, dict)]
    said = [
        str(dig(entry, "protocol", "trained_on") or "") for scores in metrics for entry in scores.values()
    ]
    return next((text for text in said if text[:1].isdigit()), "")


def provenance(run: RunFiles) -> dict[str, Any]:
    """Command, machine and versions, then one row per stage."""
    env = run.get("env.json")
    command = env.get("command")
    return {
        "command": " ".join(map(str, command)) if isinstance(command, list) else command,
        "facts": _facts({key: value for key, value in env.items() if key != "command"}),
        "stages": [_stage(stage) for stage in run.stages],
        "recipe": run.recipe,
    }


def _stage(stage: Stage) -> dict[str, Any]:
    seconds = number(stage.done, "seconds")
    finished = duration(seconds) if seconds is not None else "not finished"
    made_from = stage.done.get("made_from")
    config = dict(made_from) if isinstance(made_from, dict) else {}
    stamps = {name: str(stage.done.get(name, "–")) for name in ("key", "code")} | {
        "data": str(config.pop("data", "–"))
    }
    return {"name": stage.name, "time": finished, "config": _facts(config), **stamps}


def _facts(found: Any) -> list[tuple[str, str]]:
    """A dict as (name, value) pairs, nested ones with dotted names, empty values left out."""
    facts: list[tuple[str, str]] = []
    for key, value in (found if isinstance(found, dict) else {}).items():
        if isinstance(value, dict):
            facts += [(f"{key}.{name}", text) for name, text in _facts(value)]
        elif value is not None and value != "":
            facts.append((str(key), str(value)))
    return facts
