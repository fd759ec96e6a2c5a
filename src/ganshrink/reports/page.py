"""The run directory's files in, report.html and verdict.json out; it imports no torch and asks nothing of the network."""

import functools
import importlib
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ganshrink.reports import sections, summary
from ganshrink.reports.curves import loss_curves
from ganshrink.reports.differences import TIMES
from ganshrink.reports.files import RunFiles, read_run
from ganshrink.reports.method import method_sections
from ganshrink.reports.quantized import quantization
from ganshrink.reports.usage import usage
from ganshrink.reports.verdict import Verdict, verdict
from ganshrink.reports.words import NETWORKS, explained, in_words
from ganshrink.system.atomic import write_json, write_text

TEMPLATES = Path(__file__).parent
VERDICT = "verdict.json"


def write_report(run_dir: Path | str) -> Path:
    """Write `report.html` into a run directory, whole or not at all, and return its path; and `verdict.json`, what the page
    says at its top.

    A section whose file is missing says so, and which command makes it.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder is no run directory, or the extra `report` is not installed.
    """
    run = read_run(run_dir)
    page = render(run)
    path = run.folder / "report.html"
    write_text(path, page)
    write_json(run.folder / VERDICT, asdict(verdict_of(run)))
    return path


def verdict_of(run: RunFiles) -> Verdict:
    """The verdict on a run."""
    return verdict({**run.json, "result.json": run.optional("result.json")})


def render(run: RunFiles) -> str:
    """The page's text."""
    networks = summary.network_names(run)
    gallery = sections.gallery(run)
    found = verdict_of(run)
    return filled(
        "report.html.j2",
        run=run,
        networks=networks,
        problems=run.problems,
        lost=run.optional("missing.json"),
        verdict=found,
        sentence=shown(found.sentence),
        strip=summary.strip(run),
        table=summary.table(run, networks),
        arrow=summary.arrow,
        times=TIMES,
        gallery=gallery,
        pair=sections.pair(gallery),
        widths=sections.widths(run),
        method=method_sections(run),
        frozen=sections.frozen(run),
        statistics=sections.statistics(run),
        curves=loss_curves(run.stages),
        sampled=sections.sampled(run),
        parity=sections.parity(run),
        formats=sections.formats(run),
        usage=usage(run),
        quantized=quantization(run),
        protocols=sections.protocols(run),
        trained_on=sections.trained_on(run),
        provenance=sections.provenance(run),
    )


def shown(sentence: str) -> Any:
    """The verdict's sentence as pages have it."""
    return explained(sentence.replace("× ", "×\N{NO-BREAK SPACE}"))


def filled(template: str, **content: Any) -> str:
    """A page's text: its template with its content, the style and script of all pages, and the time."""
    jinja2, _ = load_extra()
    style, script = (
        jinja2.utils.markupsafe.Markup((TEMPLATES / name).read_text(encoding="utf-8"))
        for name in ("page.css", "page.js")
    )
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return _compiled(template).render(  # type: ignore[no-any-return]
        **content, in_words=in_words, network_words=NETWORKS, style=style, script=script, made=made
    )


@functools.cache  # compiling takes longer than filling
def _compiled(template: str) -> Any:
    jinja2, _ = load_extra()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((TEMPLATES / template).read_text(encoding="utf-8"))


def load_extra() -> list[Any]:
    """jinja2 and matplotlib.

    Raises:
        ValueError: if one of them does not import, with the extra to install.
    """
    modules = []
    for name in ("jinja2", "matplotlib"):
        try:
            modules.append(importlib.import_module(name))
        except Exception as error:  # half-installed packages raise far more than ImportError
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(
                f'the report needs {name} ({reason}): pip install "ganshrink[report]"'
            ) from error
    return modules
