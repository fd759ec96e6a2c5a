"""Arguments and options that several verbs take."""

from pathlib import Path
from typing import Annotated

import typer

FINISHED = "Use and check a finished run"  # where --help lists a verb

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe: a TOML file")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="values to change, such as `data.size=128` or `run=runs/mine`; `--explain` lists the keys",
        show_default=False,
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run, such as `runs/mine`")]
OwnNet = Annotated[
    str | None,
    typer.Option(
        "--net",
        metavar="MODULE:NAME",
        help="for a student of your own network: that network uncut, a function or class to import and call; where "
        "student.net is another one of yours, both with a comma between",
        show_default=False,
    ),
]
OwnParts = Annotated[
    list[str] | None,
    typer.Option(
        "--own",
        metavar="MODULE:NAME",
        help="a data set, task, metric or method of your own that the run was made with and that may be imported",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print the answer as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only warnings")]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="print every value, where it comes from and what it means, then stop"),
]
Retrain = Annotated[
    bool, typer.Option("--retrain", help="make again what an earlier version made in the run's folder")
]
Retime = Annotated[
    bool, typer.Option("--retime", help="time teacher and student again, though nothing changed")
]
AsNet = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NET",
        help="for a checkpoint: which network it is, as `ganshrink nets` lists them, or MODULE:NAME; else it is recognised",
        show_default=False,
    ),
]
