"""What the figures were measured on."""

import os
import platform
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def cpu_name() -> str:
    """The processor's model name, as far as the system tells."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown processor"


def clock_mhz() -> float | None:
    """The mean clock of the logical cores at this moment, as far as the system tells."""
    if not CPUINFO.exists():
        return None
    lines = [line for line in CPUINFO.read_text().splitlines() if line.startswith("cpu MHz")]
    clocks = [float(line.partition(":")[2]) for line in lines]
    return round(sum(clocks) / len(clocks)) if clocks else None


def clock_governor() -> str | None:
    """What sets the clock of the first core (`performance`, `powersave`), as far as the system tells."""
    return GOVERNOR.read_text().strip() if GOVERNOR.exists() else None


def device_name(device: torch.device) -> str:
    """The model name of a device: a person knows what it is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name() if device.type == "cpu" else str(device)


def core_count() -> int:
    """Logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
