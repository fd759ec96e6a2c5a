"""The files of made-up runs of which it is known what to say: one that went well, and what can go wrong with it."""

import copy
from typing import Any

Results = dict[str, Any]


def metric(better: str, error: float | None = None, **values: float) -> dict[str, Any]:
    """network -> entry of metrics.json, each within 95 % of an error."""

    def entry(value: float) -> dict[str, Any]:
        interval = {} if error is None else {"interval": [value - error, value + error]}
        return {"value": value, "better": better, "protocol": {"images": 100}, **interval}

    return {network: entry(value) for network, value in values.items()}


def metrics(**named: dict[str, Any]) -> dict[str, Any]:
    """metrics.json of what `metric` made."""
    networks: dict[str, Any] = {}
    for name, of_networks in named.items():
        for network, entry in of_networks.items():
            networks.setdefault(network, {})[name] = entry
    return networks


def timed(ratio: float, low: float, high: float, int8: float | None = None) -> dict[str, Any]:
    """latency.json of ONNX Runtime with 2 threads: how much faster than the teacher the student is, with the quartiles of
    the rounds, and how much faster its INT8 file."""
    speedups = {"student": {"ratio": ratio, "p50": ratio, "q1": low, "q3": high}}
    if int8 is not None:
        speedups["int8"] = {"ratio": int8, "p50": int8, "q1": int8, "q3": int8}
    rows = [
        {"network": network, "runtime": "onnxruntime", "p50_ms": 100 / speedup["ratio"], "speedup": speedup}
        for network, speedup in speedups.items()
    ]
    ratios = {"onnxruntime": speedups["student"]}
    return {"device": "A CPU", "protocol": {"threads": 2}, "rows": rows, "ratios": ratios}


def good() -> Results:
    """Ten times smaller, four times faster, as good."""
    macs = {"exact": 36_000_000_000, "paper": 43_000_000_000}
    teacher = {"params": 8_000_000, "bytes": 32_000_000, "macs": macs}
    student = {
        "params": 800_000,
        "bytes": 3_200_000,
        "macs": {name: value // 10 for name, value in macs.items()},
    }
    timing = {"device": "A CPU, onnxruntime 1.0, 2 threads", "runtime": "onnxruntime", "original_ms": 100.0}
    timing |= {"estimated_ms": 24.0, "measured_ms": 25.0, "q1_ms": 24.5, "q3_ms": 25.5}
    resolved = {"latency": 26.0}
    return {
        "cost.json": {
            "teacher": teacher,
            "student": student,
            "budget": {"given": "latency=26%@cpu", "resolved": resolved, "timing": timing},
        },
        "metrics.json": metrics(
            psnr=metric("higher", 0.3, teacher=17.4, student=17.3, mean=13.0, untrained=9.8, scratch=17.0),
            ssim=metric(
                "higher", 0.01, teacher=0.483, student=0.478, mean=0.31, untrained=0.04, scratch=0.45
            ),
        ),
        "latency.json": timed(4.0, 3.9, 4.1),
        "result.json": {"training": {"steps": 20_000, "epoch": 400}},
    }


def worse_than_scratch() -> Results:
    """The same size, trained without a teacher, makes better pictures."""
    run = good()
    run["metrics.json"]["scratch"]["ssim"]["value"] = 0.512
    return run


def three_steps() -> Results:
    """A student that was hardly trained: noise."""
    run = good()
    run["result.json"]["training"]["steps"] = 3
    for name, value in (("psnr", 9.9), ("ssim", 0.05)):
        entry = metric("higher", 0.01, student=value)["student"]
        run["metrics.json"]["student"][name] = entry
    return run


def noisy_machine() -> Results:
    """Something else ran while it was timed."""
    run = good()
    run["latency.json"] = timed(3.0, 2.1, 6.1)
    return run


def over_budget() -> Results:
    """The final timing says otherwise than the one by which the plan was accepted."""
    run = good()
    run["latency.json"] = timed(1.5, 1.48, 1.52)
    return run


PLANTED = {one.__name__: one for one in (good, worse_than_scratch, three_steps, noisy_machine, over_budget)}


def changed(run: Results, **files: Any) -> Results:
    """A copy with other files: `latency=` is that of latency.json."""
    return copy.deepcopy(run) | {f"{name}.json": content for name, content in files.items()}
