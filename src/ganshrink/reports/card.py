"""A student's model card: what it is, what it costs and is worth, under which licences, and how it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganshrink.reports.files import dig, read_run
from ganshrink.reports.page import verdict_of
from ganshrink.reports.summary import PAPERS, network_names, table
from ganshrink.reports.words import NETWORKS

UNSAID = "not stated"


def model_card(
    folder: str | Path, *, name: str, licences: Mapping[str, str | None], files: Mapping[str, str]
) -> str:
    """A run's card as Markdown with a YAML head, as model hubs read it.

    Args:
        name: of the model.
        licences: of `student`, `teacher` and `data`, as SPDX has them; None where nobody said.
        files: what lies beside the card, by name what it is.
    """
    run = read_run(folder)
    networks, found = network_names(run), verdict_of(run)
    licence = licences["student"]
    head = [
        "---",
        f"license: {licence.lower() if licence else 'other'}",
        *([] if licence else ["license_name: not-stated"]),
        "library_name: ganshrink",
        "pipeline_tag: image-to-image",
        "tags: [ganshrink, model-compression, image-to-image]",
        "---",
    ]
    shown = [(heading, rows) for heading, rows in table(run, networks) if heading != PAPERS]
    named = [NETWORKS.get(network, network) for network in networks]
    results = [f"| | {' | '.join(named)} | change |", f"|---|{'---|' * (len(networks) + 1)}"]
    for _, rows in shown:
        for row in rows:
            note = f" ({row.note})" if row.note else ""
            cells = [cell.main for cell in row.cells]
            results.append(
                f"| {_cell(row.label + note)} | {' | '.join(map(_cell, cells))} | {_cell(row.change.main)} |"
            )
    return "\n".join(
        [
            *head, "", f"# {_cell(name)}", "", f"**{found.grade.capitalize()}.** {found.sentence}", "",
            _made(dig(run.optional("result.json"), "nets")), "",
            "## Results", "", *results, "",
            "Each metric's protocol (split, count, size, networks) is in `metrics.json`.", "",
            "## Use", "", "```python", "import ganshrink", "",
            'student = ganshrink.from_pretrained(".")  # a plain nn.Module, in eval mode', "```", "",
            "## Licences", "", "| | |", "|---|---|",
            *(f"| {what} | {_cell(licences[what] or UNSAID)} |" for what in ("student", "teacher", "data")), "",
            "## Files", "", *(f"- `{file}`: {what}" for file, what in files.items()), "",
        ]
    )  # fmt: skip


def _made(nets: Any) -> str:
    if isinstance(nets, dict):
        return (
            f"A student made by ganshrink: {nets.get('student')}, a network of its own, was cut to the budget and taught by "
            f"a teacher, {nets.get('teacher')}."
        )
    return "A student made by ganshrink: channels of a teacher were cut, and what is left was trained."


def _cell(text: Any) -> str:
    """Text that cannot end a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ")
