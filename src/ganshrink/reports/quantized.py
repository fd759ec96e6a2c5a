"""The page's section on few bits: what was rounded and what that cost, layer by layer."""

from typing import Any

from ganshrink.reports.files import RunFiles, dicts, dig, number
from ganshrink.reports.numbers import file_size, times
from ganshrink.reports.verdict import RUNTIMES

FILE = "quantization.json"
INT8 = "student-int8.onnx"
COSTS = (  # keys of psnr_db, and what each compares
    ("quantized", "rounding weights and inputs, against the float student"),
    ("bytes", "the levels that no byte holds, against the network as it was quantized in training"),
    ("outputs", "these and rounding what convolutions make, which ONNX Runtime needs, against the same"),
    ("deployed", "all of it, against the float student"),
)


def quantization(run: RunFiles) -> dict[str, Any] | None:
    """`trained` (whether the student was trained in few bits) and `refused`, or `costs`, `parity`, `sizes`, `layers` and
    `float`; `bare` if there is no INT8 file. None if the run has nothing of few bits."""
    found = run.optional(FILE)
    if not found:
        return None
    if not dicts(found, "layers") and "refused" not in found:
        return {"trained": bool(found.get("trained")), "bare": True}
    if "refused" in found:
        return {"refused": str(found["refused"]), "trained": bool(found.get("trained"))}
    psnr = [(text, number(found, "psnr_db", key)) for key, text in COSTS]
    kept = dig(found, "float")
    return {
        "trained": bool(found.get("trained")),
        "costs": [(text, f"{value:.1f} dB") for text, value in psnr if value is not None],
        "images": found.get("images", "–"),
        "parity": _parity(run),
        "sizes": _sizes(run),
        "layers": [_layer(layer) for layer in dicts(found, "layers")],
        "float": [(str(path), str(why)) for path, why in (kept.items() if isinstance(kept, dict) else ())],
    }


def _parity(run: RunFiles) -> list[str]:
    entry = run.get("parity.json").get(INT8)
    runtimes = dig(entry, "runtimes")
    said = []
    for name, of_runtime in (runtimes if isinstance(runtimes, dict) else {}).items():
        if failed := dig(of_runtime, "failed"):
            said.append(f"not compared in {RUNTIMES.get(name, name)}: {failed}")
        psnr, worst = number(of_runtime, "psnr_db"), number(of_runtime, "worst_psnr_db")
        if psnr is not None:
            least = f", at least {worst:.1f}" if worst is not None else ""
            count = number(entry, "images")
            version = str(of_runtime.get("version", "")).split("-")[0]  # OpenVINO's goes on with its build
            where = f"{RUNTIMES.get(name, name)} {version}".strip()
            said.append(f"{psnr:.1f} dB{least}, on {count or 0:.0f} images in {where}")
    return said


def _sizes(run: RunFiles) -> list[tuple[str, str]]:
    sizes = [(name, run.size(name)) for name in ("student.onnx", INT8)]
    told = [(name, file_size(size)) for name, size in sizes if size is not None]
    if len(told) == 2 and sizes[0][1] and sizes[1][1]:
        told.append(("ratio", times(sizes[0][1] / sizes[1][1])))
    return told


def _layer(layer: dict[str, Any]) -> dict[str, str]:
    bits = layer.get("activation_bits")
    snr = number(layer, "snr_db")
    return {
        "path": str(layer.get("path")),
        "type": str(layer.get("type", "")),
        "weight_bits": str(layer.get("weight_bits", "–")),
        "activation_bits": str(bits) if bits is not None else "float",
        "snr": f"{snr:.0f} dB" if snr is not None else "–",
        "note": str(layer.get("note") or ""),
    }
