"""The verbs as Python has them: given a run's folder they do what the command line does, given a network they do it to that.

Where a verb takes both, its two forms are its overloads.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from torch import Tensor, nn

from ganshrink.data import Images, InputSpec
from ganshrink.exporters import export_onnx
from ganshrink.exporters.picture import ImageIO
from ganshrink.latency import measure_latency
from ganshrink.metrics import MetricsConfig, Value
from ganshrink.system.generator import Input
from ganshrink.system.values import raw
from ganshrink.workflow import scoring, verbs
from ganshrink.workflow.checkpoints import is_checkpoint, is_ours, open_checkpoint
from ganshrink.workflow.saved_networks import Uncut, load_network, student_file


def load(path: str | Path, original: Uncut = None) -> nn.Module:
    """The network of a weights file that ganshrink wrote, the student of a run's folder, or the generator of anyone's
    checkpoint, which is recognised (docs/checkpoints.md); in eval mode. It takes and gives what the original network does.

    Args:
        path: the folder, or a .safetensors file in it; a checkpoint, or `FILE:KEY` for one of several networks in it.
        original: for a network of your own, that network uncut, or its MODULE:NAME: the file holds the cut, no code.

    Raises:
        FileNotFoundError: if there is no such file, or no student in the folder.
        ValueError: if the file is none of ganshrink's nor of a network that is known, or does not fit the network.
    """
    if original is None and is_checkpoint(path) and not is_ours(path):
        return open_checkpoint(path).build()
    return raw(load_network(student_file(path), original)[0])


@overload
def evaluate(
    generator: nn.Module,
    images: Images,
    metrics: MetricsConfig | Sequence[str] | None = None,
    *,
    teacher: nn.Module | None = None,
) -> dict[str, Value]: ...
@overload
def evaluate(
    run: str | Path, /, *overrides: str, original: Uncut = None, own: Sequence[str] = ()
) -> dict[str, Any]: ...
def evaluate(generator: Any, *given: Any, **options: Any) -> dict[str, Any]:
    """Score a generator on a data set, or the networks of a run's folder again.

    Args:
        generator: (B, C, H, W), or several inputs, to images (B, 3, H, W) in [-1, 1].
        images: held-out images.
        metrics: names, or the full settings; none: PSNR and SSIM.
        teacher: for metrics of agreement.
        run: instead of all these, the folder of a run, whose metrics.json and report are renewed.
        overrides: of its [metrics] and [data], such as `metrics.split=val`.
        original: as for `load`.
        own: MODULE:NAMEs of other parts of your own that the run's recipe names and that may be imported.

    Returns:
        of a generator each metric's value with its protocol; of a run what is in metrics.json.
    """
    if isinstance(generator, str | Path):
        return _on_run(verbs.evaluate_run, generator, given, **options)
    return scoring.score(generator, *given, **options)


@overload
def export(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    path: str | Path,
    *,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    image_io: ImageIO | None = None,
    inputs: Sequence[Input] = (),
    opset: int | None = None,
    spec: InputSpec | None = None,
    provenance: Mapping[str, str] | None = None,
) -> dict[str, Any]: ...
@overload
def export(
    run: str | Path,
    /,
    *,
    dynamic_size: bool | None = None,
    image_io: ImageIO | None = None,
    formats: Sequence[str] | None = None,
    timed: bool = False,
    licence: str | None = None,
    original: Uncut = None,
    own: Sequence[str] = (),
) -> dict[str, Any]: ...
def export(model: Any, *given: Any, **options: Any) -> dict[str, Any]:
    """Write a generator as one ONNX file, compared with torch first; or the student of a run's folder in the formats
    of its recipe, or in others.

    A generator goes to `ganshrink.exporters.export_onnx`, where the arguments are explained. For a run what is not
    given is as in its recipe; `original` and `own` as for `evaluate`.

    Returns:
        of a generator the file's entry in parity.json; of a run all that is in parity.json.
    """
    if isinstance(model, str | Path):
        return _on_run(verbs.export_run, model, *given, **options)
    return export_onnx(model, *given, **options)


@overload
def measure(
    networks: Mapping[str, nn.Module],
    example: Tensor | Sequence[Tensor],
    *,
    runtimes: Sequence[str] | None = None,
    threads: int | None = None,
    warmup: int = 3,
    rounds: int = 30,
    seconds: float = 30.0,
    onnx_files: Mapping[str, str | Path] | None = None,
) -> dict[str, Any]: ...
@overload
def measure(
    run: str | Path, /, *, threads: int | None = None, seconds: float = 20, original: Uncut = None
) -> dict[str, Any]: ...
def measure(networks: Any, *given: Any, **options: Any) -> dict[str, Any]:
    """Time networks here, interleaved, in torch, ONNX Runtime and OpenVINO; or those of a run's folder.

    Networks go to `ganshrink.latency.measure_latency`, where the arguments are explained. For a run, latency.json and
    the report are renewed; `original` as for `load`.

    Returns:
        what is in latency.json.
    """
    if isinstance(networks, str | Path):
        return _on_run(verbs.measure_run, networks, *given, **options)
    return measure_latency(networks, *given, **options)


def quantize(
    run: str | Path,
    *overrides: str,
    original: Uncut = None,
    own: Sequence[str] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """Make the INT8 file of a run's student, compare it with torch, score and time it beside the others.

    Args:
        run: the folder.
        overrides: of [quantization], such as `quantization.mode=finetune`; without a mode nothing is trained.
        original, own: as for `evaluate`.

    Returns:
        what is in quantization.json.

    Raises:
        ValueError: if the student cannot be quantized, or the file computes something else in ONNX Runtime.
    """
    return verbs.quantize_run(run, overrides, net=original, own=own, progress=progress)


def _on_run(verb: Any, run: str | Path, *given: Any, original: Uncut = None, **options: Any) -> Any:
    return verb(run, *given, net=original, **options)
