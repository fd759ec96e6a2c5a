"""Which images a network is scored on while it is trained."""

from collections.abc import Callable

from torch import nn

from ganshrink.data import Images, open_dataset
from ganshrink.data.held_out import apart
from ganshrink.data.splits import has_val
from ganshrink.training.tasks import Direction
from ganshrink.training.train import Training
from ganshrink.training.validation import Validation
from ganshrink.workflow.recipe import Recipe


def validation_of(
    recipe: Recipe,
    images: Images,
    training: Training,
    *,
    direction: Direction = "AtoB",
    teacher: Callable[[], nn.Module] | None = None,
) -> tuple[Images, Validation | None]:
    """The images that are trained on, and what the network is scored on meanwhile: the split `val`, or a tenth of the
    training images where there is none, or where the result is scored on it.

    Args:
        direction: of the generator that is scored, where the task trains both ways.

    Raises:
        ValueError, FileNotFoundError: if the metric cannot be computed; or unpaired images have no `val`.
    """
    if training.validate_every is None:
        return images, None
    if recipe.data is not None and has_val(recipe.data) and recipe.metrics.split != "val":
        kept, held = images, open_dataset(recipe.data, "val")
    else:
        kept, held = apart(images, seed=0 if recipe.data is None else recipe.data.split_seed)
    validation = Validation(held, recipe.metrics, direction, teacher)
    validation.metric(training.validate_by)  # what is missing is told now
    return kept, validation
