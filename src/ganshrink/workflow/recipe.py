"""A recipe: a TOML file that names generator, data, task, method and budget, and says what differs from the defaults.

Unknown keys are refused with the nearest valid one; every value can be overridden as `key=value` (`data.size=128`).
"""

import logging
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar, cast, get_args

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from ganshrink.data import DataConfig
from ganshrink.methods.base import Method, MethodConfig, Settings
from ganshrink.metrics import MetricsConfig
from ganshrink.quant import QuantizationConfig
from ganshrink.system.spelling import did_you_mean
from ganshrink.training.tasks import Direction, Task, Term, WithTerms
from ganshrink.training.train import StudentTraining, Training
from ganshrink.workflow.net_config import NetConfig
from ganshrink.workflow.overrides import DIRECTIONS, put
from ganshrink.workflow.parts import DEFAULTS, named, settings_type, task_settings

logger = logging.getLogger(__name__)


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TeacherConfig(Training):
    """How the teacher comes to be: loaded, or trained here."""

    weights: Path | None = Field(
        default=None,
        description="trained weights of the original generator (.safetensors, or .pth of tensors alone), or the folder of "
        "a run whose teacher to take; none: train it here",
    )
    start: Path | None = Field(
        default=None,
        description="without weights: the folder of a run of the same task, whose nets to go on training; none: fresh ones",
    )
    discriminator: Path | None = Field(
        default=None,
        description="with weights: a .safetensors file of its discriminator; none: students start a new one",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.discriminator is not None and self.weights is None:
            raise ValueError(
                "teacher.discriminator is read only with teacher.weights: set both, or remove it"
            )
        if self.start is not None and self.weights is not None:
            raise ValueError(
                "teacher.start is where a training begins, teacher.weights leaves none: remove one"
            )
        return self


class StudentConfig(StudentTraining):
    """How the student is trained, and what it is cut out of."""

    net: NetConfig | None = Field(
        default=None,
        description="another network than the teacher's, [student.net] with a name and options as [net] has them: the "
        "student is cut out of it, to the budget, and starts with fresh weights; none: it is cut out of the teacher (see "
        "student-net.md)",
    )


class ExportConfig(Config):
    onnx: bool = Field(default=True, description="write student.onnx and check it against torch")
    formats: tuple[str, ...] = Field(
        default=(), description="more files to write: exporters by name, or MODULE:NAME of your own"
    )
    dynamic_size: bool = Field(default=False, description="let height and width of the ONNX input vary")
    image_io: Literal["uint8", "float32"] | None = Field(
        default=None, description="put the scaling from and to 0..255 images of this type inside the graph"
    )
    licence: str | None = Field(
        default=None, description="of the student, for the metadata of its files, such as MIT"
    )

    @property
    def names(self) -> tuple[str, ...]:
        """All exporters that are wanted."""
        return tuple(dict.fromkeys(("onnx",) * self.onnx + self.formats))

    @property
    def options(self) -> dict[str, Any]:
        """What every exporter is told."""
        return self.model_dump(include={"dynamic_size", "image_io"})


class LatencyConfig(Config):
    enabled: bool = Field(default=True, description="time teacher and student on this machine, interleaved")
    runtime: Literal["onnxruntime", "openvino", "torch"] | None = Field(
        default=None,
        description="in which a budget in milliseconds counts; none: onnxruntime where it is installed, else torch",
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; none: as torch has it")
    seconds: float = Field(default=20, gt=0, description="at most about how long to measure")


DataOptions = TypeVar("DataOptions", bound=DataConfig)
TaskOptions = TypeVar("TaskOptions", bound=BaseModel)
MethodOptions = TypeVar("MethodOptions", bound=BaseModel)


class Recipe(Config, Generic[DataOptions, TaskOptions, MethodOptions]):
    """Everything a run needs. Defaults are those of the papers."""

    run: Path | None = Field(
        default=None, description="the run's folder; none: named after the recipe, runs/FOLDER-FILE"
    )
    seed: int = Field(default=0, ge=0, description="seed of initialisation, data order and augmentation")
    budget: str | dict[Direction, str] = Field(
        default="macs=10%",
        description="what the student may cost, such as macs=2.6G or macs=10%,params=0.4M; with data.direction = "
        "'both' also a table that gives AtoB and BtoA their own",
    )
    scratch: bool = Field(
        default=False,
        description="also train the student's architecture without a teacher, for as long, to compare",
    )
    net: NetConfig
    data: DataOptions | None = Field(default=None, description="none: the data came from Python")
    task: TaskOptions
    method: MethodOptions
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    metrics: MetricsConfig = MetricsConfig()
    export: ExportConfig = ExportConfig()
    latency: LatencyConfig = LatencyConfig()
    quantization: QuantizationConfig = QuantizationConfig()

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)  # method, task and terms from Python

    @property
    def method_function(self) -> Method:
        return self._given.get("method") or named("method", self.method.name)  # type: ignore[attr-defined]

    @property
    def task_type(self) -> type[Task]:
        given = self._given.get("task") or named("task", self.task.name)  # type: ignore[attr-defined]
        return given if isinstance(given, type) else type(given)

    def new_task(self) -> Task:
        """The task with its settings."""
        given, terms = self._given.get("task"), self._given.get("terms")
        task: Any = self.task_type(self.task) if given is None or isinstance(given, type) else given
        return cast(Task, WithTerms(task, terms)) if terms else task

    @field_validator("budget", mode="before")
    @classmethod
    def _names_both_directions(cls, budget: Any) -> Any:
        if isinstance(budget, int | float):
            raise ValueError(f"must be KIND=AMOUNT: macs={100 * budget if budget < 1 else budget:g}%?")
        table = budget if isinstance(budget, Mapping) else dict.fromkeys(DIRECTIONS, "")
        if table.keys() != set(DIRECTIONS) or not all(isinstance(limits, str) for limits in table.values()):
            raise ValueError(
                "a table needs a limit for each direction, such as AtoB = 'macs=10%' and BtoA = 'macs=20%'; this one is "
                f"{dict(table)}"
            )
        return budget

    @model_validator(mode="after")
    def _goes_where_its_budgets_are(self) -> Self:
        both = self.data is not None and self.data.direction == "both"
        if not isinstance(self.budget, str) and not both:
            raise ValueError(
                f"budget gives each direction its own limit, but only {self.direction} is made: write budget = "
                f"{self.limits!r}, or data.direction = 'both'"
            )
        return self

    @property
    def direction(self) -> Direction:
        """Which way the student goes; of both ways, the first."""
        return "BtoA" if self.data is not None and self.data.direction == "BtoA" else "AtoB"

    @property
    def limits(self) -> str:
        """The budget of the student that goes in `direction`."""
        return self.budget if isinstance(self.budget, str) else self.budget[self.direction]

    def ways(self) -> "list[Self]":
        """This recipe, or where both directions are asked for one for each, in a folder of its own."""
        if self.data is None or self.data.direction != "both":
            return [self]
        return [self._towards(direction) for direction in DIRECTIONS]

    def _towards(self, direction: Direction) -> Self:
        assert self.data is not None
        data = self.data.model_copy(update={"direction": direction})
        moved = self.model_copy(update={"data": data, "run": self.run and self.run / direction})
        return moved.model_copy(update={"budget": moved.limits})


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The typed recipe of a TOML file with `key=value` overrides.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one line for each thing that is wrong: where, what, and the nearest valid key.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(_no_recipe(path))
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is no recipe, a text in TOML, nor a checkpoint that is known by its ending"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        put(raw, override)
    raw.setdefault("run", f"runs/{path.parent.name}-{path.stem}")
    return resolve(raw, source=str(path))


def _no_recipe(path: Path) -> str:
    """What to say of a path that is no file."""
    if not path.is_dir():
        beside = [file.name for file in path.parent.glob("*.toml")]
        return f"there is no recipe {path}" + (did_you_mean(path.name, beside) if beside else "")
    if (path / "recipe.toml").is_file():
        return (
            f"{path} is a run: `ganshrink compress {path / 'recipe.toml'}` goes on with it; evaluate, export, quantize, "
            "measure, predict and report work on it"
        )
    recipes = sorted(file.name for file in path.glob("*.toml"))
    return f"{path} is a folder: name a recipe, a TOML file" + (
        f", in it: {', '.join(recipes)}" if recipes else ""
    )


def resolve(raw: Mapping[str, Any], *, source: str = "recipe", terms: Sequence[Term] = ()) -> Recipe:
    """The typed recipe of a nested mapping. What `[student]` leaves open is as in `[teacher]`.

    Args:
        terms: further losses of the student's generator; no file can hold them.

    Raises:
        ValueError: as `read_recipe`.
    """
    filled = {"task": {}, "method": {}, **raw}
    for table in ("net", "task", "method"):
        chosen = filled.get(table)
        if isinstance(chosen, str) or callable(chosen) or hasattr(chosen, "Config"):
            filled[table] = {"name": chosen}  # `method = "cat"` says all that is needed
    for table in ("task", "method", "teacher", "student"):
        if not isinstance(filled.setdefault(table, {}), Mapping):
            raise ValueError(f"{source}: {table} must be a table, such as [{table}] with name = ...")
    given: dict[str, Any] = {"terms": tuple(terms)}
    data, task, method = (_chosen(filled, table, given, source) for table in ("data", "task", "method"))
    filled["method"] = _in_tables(filled["method"], method, source)
    if isinstance(filled["student"].get("net"), str):
        filled["student"] = {**filled["student"], "net": {"name": filled["student"]["net"]}}
    inherited = {key: value for key, value in filled["teacher"].items() if key in Training.model_fields}
    filled["teacher"] = {"seed": filled.get("seed", 0), **filled["teacher"]}
    filled["student"] = {"seed": filled.get("seed", 0), **inherited, **filled["student"]}
    model = Recipe[data, task, method]  # type: ignore[valid-type]
    try:
        recipe = model.model_validate(filled)
    except ValidationError as error:
        raise ValueError("\n".join(f"{source}: {line}" for line in _told(error.errors(), model))) from None
    recipe._given.update(given)
    return recipe


def dump(recipe: Recipe) -> str:
    """The resolved recipe as TOML, every value written out."""
    return tomli_w.dumps(_without_none(recipe.model_dump(mode="json")))


def _chosen(raw: dict[str, Any], table: str, given: dict[str, Any], source: str) -> Any:
    """The settings class of what a table's `name` picks. A method or task itself goes to `given`, and a name there."""
    settings = raw.get(table, {})
    if not isinstance(settings, Mapping):
        return DataConfig  # whose error says what a table must be
    name = settings.get("name", DEFAULTS[table])
    try:
        if not isinstance(name, str):
            given[table] = name
            settings = {**task_settings(name), **settings}
        name, kind = settings_type(table, name)
    except ValueError as error:
        raise ValueError(f"{source}: {table}.name: {error}") from None
    if table in raw:
        raw[table] = {**settings, "name": name}
    return kind


def _in_tables(raw: Mapping[str, Any], config: type[MethodConfig], source: str) -> dict[str, Any]:
    """A method's settings with those that stood in [method] itself before version 0.2 in the tables of their stages."""
    tables = {
        name: field.annotation.model_fields
        for name, field in config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    }
    moved: dict[str, Any] = {}
    for key, value in raw.items():
        places = config.renamed.get(
            key, [f"{name}.{key}" for name, fields in tables.items() if key in fields]
        )
        known = key in config.model_fields and not (key in tables and not isinstance(value, Mapping))
        if known or not places:
            merged = key in tables and isinstance(value, Mapping)
            moved[key] = {**moved.get(key, {}), **value} if merged else value
            continue
        logger.warning("%s: method.%s is now method.%s", source, key, " and method.".join(places))
        for place in places:
            *table, name = place.split(".")
            target = moved.setdefault(table[0], {}) if table else moved
            target[name] = value
    return moved


def _told(errors: Sequence[Any], model: type[BaseModel]) -> list[str]:
    """One line for each wrong key. A value that [student] or a seed took over is told once, where it was written."""
    lines: dict[str, str] = {}
    for error in errors:
        key, table = _locate(error["loc"], model)
        lines.setdefault(key, f"{key}: {_explain(error, table)}".removeprefix(": "))

    def inherited(key: str) -> bool:
        table, _, name = key.partition(".")
        return (table == "student" and f"teacher.{name}" in lines) or (name == "seed" and "seed" in lines)

    return [line for key, line in lines.items() if not inherited(key)]


def _locate(loc: Sequence[Any], model: type[BaseModel]) -> tuple[str, type[BaseModel]]:
    """The key that an error is about, without the branches of a union that were tried for it, and the key's table."""
    key: list[str] = []
    for part in map(str, loc):
        key.append(part)
        field = model.model_fields.get(part)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        tables = [kind for kind in kinds if hasattr(kind, "model_fields")]
        if not tables or len(key) == len(loc):
            break
        model = tables[0]
    return ".".join(key), model


def _explain(error: Any, table: type[BaseModel]) -> str:
    """What is wrong, and the value that was given."""
    if error["type"] == "extra_forbidden":
        keys = _keys(table)
        return f"unknown key{did_you_mean(error['loc'][-1], keys, written=keys)}"
    if error["type"] == "missing":
        return "is missing"
    given = "" if isinstance(error["input"], Mapping) else f" (got {error['input']!r})"
    return f"{error['msg'].removeprefix('Value error, ')}{given}"


def _keys(table: type[BaseModel]) -> dict[str, str]:
    """The keys of a table and of those in it, and how each is written."""
    keys = {name: name for name in table.model_fields}
    for name, field in table.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            keys |= {key: f"{name}.{key}" for key in field.annotation.model_fields if key not in keys}
    return keys


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: what is not set is not written."""
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in table.items() if v is not None}
