"""A run's student as a folder that others take, with weights, config and card; and such a folder as a network."""

import importlib
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from ganshrink.data.pictures import printable
from ganshrink.deploy.goldens import FILE as GOLDENS
from ganshrink.reports.card import model_card
from ganshrink.system.atomic import replacing, write_json, write_text
from ganshrink.system.spelling import one_line
from ganshrink.system.values import raw
from ganshrink.workflow.saved_networks import Uncut, load_network, read_spec, student_file

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
# What else of a run travels, where it is there.
BESIDE = {
    "student.onnx": "the student for ONNX Runtime",
    "student-int8.onnx": "the student in integers",
    GOLDENS: "three inputs and what the student made of them: `ganshrink verify .`",
    "metrics.json": "every metric with its protocol",
    "cost.json": "parameters, multiply-accumulates, bytes",
}


def save_pretrained(
    run: str | Path,
    folder: str | Path,
    *,
    name: str | None = None,
    license: str | None = None,
    teacher_license: str | None = None,
    data_license: str | None = None,
    goldens: bool = False,
    push_to: str | None = None,
) -> Path:
    """Write a finished run's student as a folder for others: model.safetensors, config.json, a model card (README.md) with
    the run's results and the licences, and its exported files; and return it.

    Args:
        run: the run's folder.
        folder: what to write; it is made, and files of these names in it are replaced.
        name: of the model, at the top of its card; none: the folder's.
        license, teacher_license, data_license: SPDX names, such as `MIT`, of the student, its teacher and what they were
            trained on; the card says where nobody said.
        goldens: also goldens.npz, which holds held-out pictures.
        push_to: a repository of a model hub, `OWNER/NAME`, to upload the folder to (extra `hub`), which must be logged in.

    Raises:
        FileNotFoundError: if the run holds no student.
        ValueError: if it is no finished run; or for an upload without the extra, or one that is refused.
    """
    hub = _hub("pushing") if push_to is not None else None
    run, folder = Path(run), Path(folder)
    weights = student_file(run)
    spec = read_spec(weights)
    if folder.resolve() == run.resolve():
        raise ValueError(f"{printable(folder)} is the run itself: name another folder to write")
    beside = {file: what for file, what in BESIDE.items() if (run / file).is_file()}
    if not goldens:
        beside.pop(GOLDENS, None)
    licences = {"student": license, "teacher": teacher_license, "data": data_license}
    files = {
        WEIGHTS: "the weights, and in the metadata how the network is built",
        CONFIG: "the same to read",
        **beside,
    }
    text = model_card(run, name=name or folder.resolve().name, licences=licences, files=files)
    _copy(weights, folder / WEIGHTS)
    for file in beside:
        _copy(run / file, folder / file)
    config = {"library_name": "ganshrink", "ganshrink_version": version("ganshrink"), "licenses": licences}
    write_json(folder / CONFIG, config | {"network": spec.model_dump(mode="json")})
    write_text(folder / CARD, text)
    if hub is not None and push_to is not None:
        try:
            hub.create_repo(push_to, exist_ok=True)
            hub.upload_folder(
                repo_id=push_to, folder_path=str(folder), commit_message="A student by ganshrink"
            )
        except Exception as error:  # the hub's own, and those of the network
            raise ValueError(
                f"{printable(folder)} is written, but {push_to} did not take it: {one_line(error)}"
            ) from error
    return folder


def from_pretrained(source: str | Path, original: Uncut = None) -> nn.Module:
    """The student of a folder that `save_pretrained` wrote, or of a repository of a model hub, in eval mode.

    Args:
        source: the folder; or `OWNER/NAME`, which is fetched (extra `hub`).
        original: as for `load`.

    Raises:
        FileNotFoundError: if there is no such folder, and its name is no repository's.
        ValueError: if it holds no student; or for a repository without the extra, or one that is not given.
    """
    folder = Path(source)
    if not folder.is_dir():
        if (
            len(folder.parts) != 2
            or folder.is_absolute()
            or "." in (folder.parts[0][:1], folder.parts[1][:1])
        ):
            raise FileNotFoundError(f"there is no folder {printable(folder)}")
        hub = _hub(f"there is no folder {printable(folder)}, and fetching it")
        try:
            folder = Path(hub.snapshot_download(str(source), allow_patterns=[WEIGHTS, CONFIG]))
        except Exception as error:  # the hub's own, and those of the network
            raise ValueError(f"{source} is not to be had: {one_line(error)}") from error
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{printable(folder)} holds no {WEIGHTS}: save_pretrained writes one")
    return raw(load_network(folder / WEIGHTS, original)[0])


def _hub(what: str) -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except Exception as error:  # half-installed packages raise far more than ImportError
        raise ValueError(
            f'{what} needs huggingface_hub ({one_line(error)}): pip install "ganshrink[hub]"'
        ) from error


def _copy(file: Path, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(file, part)
