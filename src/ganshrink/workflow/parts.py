"""Data sets, tasks and methods as a recipe names them: found, with the settings class of each."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, create_model

from ganshrink.data import DATASETS, DataConfig
from ganshrink.methods import DEFAULT, METHODS
from ganshrink.methods.base import MethodConfig
from ganshrink.system.own import Kind, chosen, qualified, settings_of
from ganshrink.training.tasks import TASKS

DEFAULTS: Mapping[str, str] = {"data": "facades-synthetic", "task": "pix2pix", "method": DEFAULT}
_KINDS: Mapping[str, tuple[Kind, Mapping[str, Any], type[BaseModel]]] = {  # and what their settings are
    "data": ("data", DATASETS, DataConfig),
    "task": ("tasks", TASKS, BaseModel),
    "method": ("methods", METHODS, MethodConfig),
}


def named(table: str, name: str) -> Any:
    """What the `name` of a recipe's table stands for.

    Raises:
        ValueError: as `chosen`.
    """
    kind, known, _ = _KINDS[table]
    return chosen(kind, name, known)


def settings_type(table: str, part: Any) -> tuple[str, type[BaseModel]]:
    """The name that a recipe shows for a part, and the class of its settings.

    Args:
        part: its name; of a method or task, itself.

    Raises:
        ValueError: for an unknown name, and for what has no settings class.
    """
    _, known, wanted = _KINDS[table]
    if isinstance(part, str):
        name, part = part, named(table, part)
    else:
        made = part if isinstance(part, type) or not hasattr(part, "Config") else type(part)
        name = next((key for key, entry in known.items() if made is entry), qualified(part))
    settings = getattr(part, "Config", None)
    if settings is None and callable(part):
        settings = settings_of(name, part)
    if table == "data":
        settings = settings or DataConfig
    if not (isinstance(settings, type) and issubclass(settings, wanted)):
        where = "a class attribute Config" if table == "task" else "the type of its parameter config"
        raise ValueError(f"{name} does not say what its settings are: give a {wanted.__name__} as {where}")
    if name in known:
        return name, settings
    shown = Field(default=name, description=f"the {table}, code of your own or of an installed package")
    return name, create_model(settings.__name__, __base__=settings, name=(str, shown))


def task_settings(part: Any) -> dict[str, Any]:
    """The settings that a task has which was made in Python; none of a class or function."""
    config = None if isinstance(part, type) else getattr(part, "config", None)
    return config.model_dump(mode="json", exclude={"name"}) if isinstance(config, BaseModel) else {}
