"""How the command line ends: with an answer, or with one line about what went wrong and an exit code."""

import os
import signal
import sys
import warnings
from typing import Any

import typer

from ganshrink.system.signals import Interrupted

GOES_ON = "the same command goes on from what is saved"
MANY = "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1  # processes, started by torchrun
FOLLOWS = MANY and os.environ["RANK"] != "0"  # the first of them speaks for all


def run_app(app: typer.Typer) -> None:
    """Run a verb. An error is one clear line and a non-zero exit code; `--debug` shows the trace."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    signal.signal(signal.SIGTERM, _terminated)
    warnings.filterwarnings("ignore", module="PIL")  # what is wrong with a picture is said in our one line
    try:
        app(args=arguments, prog_name="ganshrink")  # also as `python -m ganshrink`, for usage and completion
    except SystemExit as stop:
        interruption = stop.__context__.__cause__ if stop.__context__ else None
        if not isinstance(interruption, KeyboardInterrupt):  # which typer turns into an exit
            raise
        _hold_out()
        if _speaks():
            typer.echo(str(interruption) or f"interrupted; {GOES_ON}", err=True)
        sys.exit(128 + getattr(interruption, "number", signal.SIGINT))
    except Exception as error:
        if debug:
            raise
        _hold_out()
        expected = isinstance(error, ValueError | OSError | RuntimeError)
        if _speaks():
            typer.echo(
                f"error: {error}"
                if expected
                else f"error: {type(error).__name__}: {error} (--debug shows where)",
                err=True,
            )
        sys.exit(1)


def _hold_out() -> None:
    """Of several processes one that fails makes torchrun end the others, which must not cut off what this one has to say."""
    if MANY:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _speaks() -> bool:
    """Whether to say how this process ended: of several, the first to end does, since it took the others with it."""
    if not MANY:
        return True
    from ganshrink.system.distributed import speaks_first

    return speaks_first()


def _terminated(number: int, _: Any) -> None:
    """End as Ctrl-C does, cleaning up on the way; a second SIGTERM ends without."""
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(f"terminated; {GOES_ON}", number)
