"""What a run would take: hours, disk and memory, from a trial of a few steps of each of its trainings."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from ganshrink.data import open_dataset
from ganshrink.data.images import num_inputs
from ganshrink.training.trial import STEPS, Trial
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import Recipe

SCORED = 8  # pictures, in the trial


def dry_run(recipe: Recipe) -> dict[str, Any]:
    """Make the run in a temporary folder with trainings of a few steps, and throw it away: what would fail fails now.

    Returns:
        JSON-ready: `stages`, each with `name`, `seconds` and, of trainings, `steps` and `images`; `scoring`, `exporting` and
        `timing` in seconds; `seconds` of all together; `disk` and `memory` in bytes, the latter of the processor and, where
        there is one, of the GPU. A search's steps are at most so many, and scoring takes at most so long.

    Raises:
        ValueError: for anything that cannot work.
    """
    settings, longer = recipe.method.for_trial()
    trial = Trial(longer)
    with tempfile.TemporaryDirectory(prefix="ganshrink-dry-run-") as folder:
        limit = min(SCORED, recipe.metrics.limit or SCORED)
        short = recipe.model_copy(
            update={
                "run": Path(folder),
                "method": settings,
                "metrics": recipe.metrics.model_copy(update={"limit": limit}),
                "latency": recipe.latency.model_copy(update={"enabled": False}),
            }
        )
        finished = compress_recipe(short, progress=False, trial=trial)
        after = {
            name: _made_at(finished.path / name) for name in ("cost.json", "metrics.json", "parity.json")
        }
        disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    assert recipe.data is not None
    images = num_inputs(open_dataset(recipe.data, recipe.metrics.split, checked=False))
    scoring = (
        (after["metrics.json"] - after["cost.json"]) * min(images, recipe.metrics.limit or images) / limit
    )
    exporting = max(0.0, after["parity.json"] - after["metrics.json"])
    timing = recipe.latency.seconds if recipe.latency.enabled else 0.0
    stages = [stage for stage in trial.stages if stage.seconds >= 0.5 or stage.steps]
    return {
        "stages": [
            {"name": stage.name, "seconds": stage.seconds}
            | ({"steps": stage.steps, "images": stage.images} if stage.steps else {})
            for stage in stages
        ],
        "scoring": scoring,
        "exporting": exporting,
        "timing": timing,
        "seconds": sum(stage.seconds for stage in stages) + scoring + exporting + timing,
        "disk": disk,
        "memory": _peak_memory(),
        "timed_steps": STEPS,
    }


def _made_at(file: Path) -> float:
    return file.stat().st_mtime if file.is_file() else 0.0


def _peak_memory() -> dict[str, int]:
    """Bytes that this process has held at most."""
    found = {}
    try:
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        found["cpu"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except ImportError:
        pass
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated()
    return found
