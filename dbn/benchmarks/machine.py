"""The machine that is timed: what it is, whether it is idle, and the memory that was taken on it."""

import gc
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from dbn.runs.versions import version_of
from dbn.training.distributed import threads_each

PACKAGES = ("torch-dbn", "torch", "numpy", "scikit-learn", "rbms", "learnergy")
IDLE = 0.5
"""The greatest load that is not remarked on."""


def machine(device: str = "cpu") -> dict[str, Any]:
    """GPU if one is timed, processor, cores, threads, versions, and what kept the machine busy in the last minute."""
    versions = {name: found for name in PACKAGES if (found := version_of(name))}
    return {
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "processor": _processor(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "cores_allowed": threads_each(1),
        "threads": torch.get_num_threads(),
        "numpy_threads": _numpy_threads(),
        "load_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **versions},
    }


def describe(about: dict[str, Any]) -> str:
    """`machine()` in two lines, and a third where others are busy on it."""
    numpy = "" if about["numpy_threads"] is None else f" ({about['numpy_threads']} of numpy's)"
    lines = [
        f"{about['processor']}, {about['cores_allowed']} of {about['cores']} cores, {about['threads']} threads{numpy}",
        ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    ]
    if about["gpu"]:
        lines.insert(0, f"{about['gpu']}; times are by its own events")
    if about["load_before"] > IDLE:
        lines.append(
            f"The machine was not idle before: its load was {about['load_before']:.1f} in the last minute. Figures "
            "mean little unless it is alone."
        )
    return "\n".join(lines)


def _processor() -> str:
    lines = _lines("/proc/cpuinfo")
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _numpy_threads() -> int | None:
    """Of numpy's matrix products, which scikit-learn uses; None where nothing tells."""
    try:
        import numpy  # noqa: F401, RUF100
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    return max((int(each["num_threads"]) for each in threadpool_info() if each["user_api"] == "blas"), default=None)


def fresh_peak(device: str = "cpu") -> float | None:
    """MB in memory now, the device's on CUDA; from here on `peak` tells the most. None where the system cannot tell."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return status("VmRSS")


def peak(device: str = "cpu") -> float | None:
    """The most MB in memory since `fresh_peak`."""
    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else status("VmHWM")


def status(name: str) -> float | None:
    """A line of /proc/self/status, in MB; None where there is none."""
    lines = _lines("/proc/self/status")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), None)


def _lines(file: str) -> list[str]:
    """None where the system has no such file."""
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def peak_memory() -> float:
    """Of the whole process since its start, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
