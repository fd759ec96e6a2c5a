"""What a network or a recipe will meet in the runtimes that it is meant for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganshrink import nets
from ganshrink.deploy.lint import lint, targets_of
from ganshrink.pruning import initialise
from ganshrink.workflow.compress import original_of
from ganshrink.workflow.profile import network_of
from ganshrink.workflow.recipe import read_recipe
from ganshrink.workflow.saved_networks import Uncut, example_of, load_network, student_file


def lint_net(
    target: str | Path,
    overrides: Sequence[str] = (),
    *,
    runtimes: Sequence[str] = (),
    inputs: Sequence[str] = (),
    original: Uncut = None,
) -> dict[str, Any]:
    """What `ganshrink.deploy.lint` finds of a network; `of` is what was looked at, `trained` whether its weights are.

    Args:
        target: a recipe's file; a network's name, or `MODULE:NAME` of your own; weights (.safetensors) or a run's folder.
        overrides: `key=value` of the recipe, or for the network's constructor.
        runtimes: targets, as faults.toml names them; none: all.
        inputs: of a network by its name, as `network_of` takes them.
        original: for weights of a network of your own, that network uncut, or its MODULE:NAME.

    Raises:
        ValueError: for an unknown network, option or target, a network that cannot be exported, or an exported file.
        FileNotFoundError: if the folder holds no student.
    """
    targets_of(runtimes)
    path, text = Path(target), str(target)
    trained = path.suffix == ".safetensors" or path.is_dir()
    if inputs and (trained or path.suffix == ".toml"):
        raise ValueError(f"--input is of a network by its name: {target} says itself what it takes")
    if path.suffix == ".onnx":
        raise ValueError(
            f"{target} is exported already: lint reads a network, a recipe, or the run that it is of"
        )
    if trained:
        if overrides:
            raise ValueError(
                f"{target} is trained as it is: {overrides[0]} would change a recipe or a network by its name"
            )
        network, spec = load_network(student_file(path), original)
        example = list(example_of(spec))
        name = str(spec.net["name"]) if spec.net else ""
    elif path.suffix == ".toml":
        recipe = read_recipe(path, overrides)
        network, given = original_of(recipe)
        example = list(given)
        name = (recipe.student.net or recipe.net).name
    else:
        network, example, _ = network_of(text, overrides, inputs)
        name = text
    options = nets.net_options(name) if name in nets.NETS else {}  # those of others mean other things
    if options and not trained:
        initialise(network)  # as a training begins
    return {"of": text, "trained": trained, **lint(network, example, targets=runtimes, options=options)}
