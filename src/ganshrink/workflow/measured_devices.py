"""What the page of `ganshrink demo` measured on a device: whole networks, timed in its browser; kept in devices.json.

A device profile, which a budget in milliseconds needs, has the times of single layers at many widths; these are not that.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from ganshrink.data.pictures import printable
from ganshrink.reports import write_report
from ganshrink.system.atomic import write_json
from ganshrink.training.stages import file_hash

FILE = "devices.json"


class Timed(BaseModel):
    """One network: its name, its file's bytes, and milliseconds of each run."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(max_length=100)
    bytes: PositiveInt
    ms: tuple[PositiveFloat, ...] = Field(min_length=3)


class Measured(BaseModel):
    """What the page saves."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["ganshrink browser measurement"]
    run: str = Field(max_length=1000)
    when: str = Field(max_length=40)
    runtime: str = Field(max_length=100)
    provider: Literal["webgpu", "wasm"]
    threads: PositiveInt
    browser: str = Field(max_length=1000)
    cores: PositiveInt | None = None
    input: tuple[PositiveInt, PositiveInt, PositiveInt]
    networks: tuple[Timed, ...] = Field(min_length=1)


def read_measured(path: str | Path) -> Measured:
    """A file that the page saved.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is none of the page's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {printable(path)}: the page of `ganshrink demo RUN` saves one"
        )
    try:
        return Measured.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{printable(path)} is nothing that the page saved: {where}: {first['msg']}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{printable(path)} is nothing that the page saved: {error}") from None


def add_device(run: str | Path, file: str | Path, *, name: str | None = None) -> dict[str, Any]:
    """Keep what the page measured in a run's devices.json, in place of an earlier one of that device, and renew the report.

    Args:
        name: of the device, such as `Pixel 8`; none: its browser's words.

    Returns:
        its entry: `name`, `place`, `input`, `networks` (median and quartiles in milliseconds), `ratio`, `measured`, `files`
        (hashes of what was timed).

    Raises:
        FileNotFoundError: if there is no such file, or no run.
        ValueError: if it is none of the page's, or the run's networks are others by now.
    """
    run, found = Path(run), read_measured(file)
    for one in found.networks:
        own = run / f"{one.name}.onnx"
        if not own.is_file():
            raise FileNotFoundError(
                f"{printable(run)} holds no {one.name}.onnx, which {printable(file)} was measured with"
            )
        if own.stat().st_size != one.bytes:
            raise ValueError(
                f"{printable(file)} was measured with a {one.name}.onnx of {one.bytes} bytes, that of {printable(run)} has "
                f"{own.stat().st_size}: write the page anew, and measure again"
            )
    entry = _entry(found, name or found.browser)
    entry["files"] = {f"{one.name}.onnx": file_hash(run / f"{one.name}.onnx") for one in found.networks}
    kept = json.loads((run / FILE).read_text(encoding="utf-8"))["devices"] if (run / FILE).is_file() else []
    others = [one for one in kept if (one["name"], one["place"]) != (entry["name"], entry["place"])]
    write_json(run / FILE, {"devices": [*others, entry]})
    write_report(run)
    return entry


def keep_current(run: Path) -> None:
    """Forget what was measured with files that are gone or others by now."""
    if not (run / FILE).is_file():
        return
    kept = json.loads((run / FILE).read_text(encoding="utf-8"))["devices"]
    true = [one for one in kept if all(_is(run / file, written) for file, written in one["files"].items())]
    if len(true) < len(kept):
        write_json(run / FILE, {"devices": true})


def _is(path: Path, written: str) -> bool:
    return path.is_file() and file_hash(path) == written


def _entry(found: Measured, name: str) -> dict[str, Any]:
    threads = f", {found.threads} thread{'s' * (found.threads > 1)}"
    place = "WebGPU" if found.provider == "webgpu" else f"WebAssembly{threads}"
    rows = {}
    for one in found.networks:
        q1, p50, q3 = (float(np.percentile(one.ms, at)) for at in (25, 50, 75))
        rows[one.name] = {"p25_ms": q1, "p50_ms": p50, "p75_ms": q3, "runs": len(one.ms)}
    quick = [rows[name]["p25_ms"] for name in ("teacher", "student") if name in rows]
    return {
        "name": name,
        "place": place,
        "input": list(found.input),
        "networks": rows,
        "ratio": quick[0] / quick[1] if len(quick) == 2 else None,
        "measured": found.model_dump(mode="json", exclude={"networks"}),
    }
