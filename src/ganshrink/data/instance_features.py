"""Features of instances beside label maps: what a trained encoder makes of a photo (pix2pixHD, section 3.4)."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ganshrink.nets.instance_encoder import INSTANCES, InstanceEncoder
from ganshrink.system.copies import in_evaluation

FILE = "encoder.safetensors"  # in the folder of a run
KEY = "ganshrink_encoder"  # of its metadata: options of the network, and the mean features of each class
ClassMeans = tuple[tuple[float, ...], ...]


def encoder_path(encoder: str) -> Path:
    """The file that `data.encoder` names, or that lies in the folder which it names.

    Raises:
        FileNotFoundError: if there is none.
    """
    path = Path(encoder)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"data.encoder: there is no file {path}: train one with `ganshrink train` and task.features"
        )
    return path


def class_means(encoder: str) -> ClassMeans:
    """The mean features of each class, by an encoder's file."""
    path = encoder_path(encoder)
    return _opened(path, path.stat().st_mtime_ns)[1]


def features_of(encoder: str, photo: Tensor, instances: Tensor) -> Tensor:
    """What an encoder's file makes of a photo (C, H, W) in [-1, 1] and its instances (1, H, W): (features, H, W)."""
    path = encoder_path(encoder)
    network = _opened(path, path.stat().st_mtime_ns)[0]
    with torch.no_grad():
        return network(photo[None], instances[None])[0]  # type: ignore[no-any-return]


def instance_numbers(ids: np.ndarray, *, where: str) -> Tensor:
    """The ids of a map (H, W), of instances or classes, as int64 numbers (1, H, W) from 0 on without gaps.

    Raises:
        ValueError: if there are more than an encoder takes.
    """
    found, numbers = np.unique(ids, return_inverse=True)
    if len(found) > INSTANCES:
        raise ValueError(f"{where}: {len(found)} instances, an encoder takes {INSTANCES} at most")
    return torch.from_numpy(numbers.reshape(1, *ids.shape).astype(np.int64))


def encoder_note(encoder: InstanceEncoder, means: ClassMeans) -> dict[str, str]:
    """The metadata of an encoder's file."""
    return {KEY: json.dumps({"options": encoder.options, "classes": means})}


@lru_cache(maxsize=4)
def _opened(path: Path, changed: int) -> tuple[InstanceEncoder, ClassMeans]:
    try:
        with safe_open(path, "pt") as file:
            note: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
        network = InstanceEncoder(**note["options"])
        network.load_state_dict(load_file(path))
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(f"data.encoder: {path} is no encoder that ganshrink wrote") from error
    network = in_evaluation(network)
    network.requires_grad_(False)
    return network, tuple(tuple(row) for row in note["classes"])
