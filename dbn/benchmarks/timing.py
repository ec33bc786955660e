"""Timing the cases: what is available, warming up, repeats in alternation, memory."""

import gc
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch.profiler import ProfilerActivity, profile

from dbn.benchmarks.cases import CASES, Key
from dbn.benchmarks.machine import fresh_peak, peak
from dbn.benchmarks.running import Case, Runner, Setting
from dbn.errors import InputError
from dbn.training.device import matmul_dtype, pick_device


def available(asked: tuple[str, ...] | None, device: str = "cpu") -> tuple[tuple[str, ...], list[str]]:
    """The precisions to time, and a sentence where one is left out; InputError where one is asked for and not there."""
    try:
        for name in asked or ("float32", "bf16"):
            matmul_dtype(name, pick_device(device))
    except InputError:
        if asked:
            raise
        return ("float32",), ["bf16 was left out: this processor has no products in bfloat16."]
    return asked or ("float32", "bf16"), []


def rehearse(keys: Iterable[Key], cases: Mapping[str, Case] = CASES, device: str = "cpu") -> dict[str, str]:
    """Run every case once in small, so that all is imported; the names of those that cannot be, and why."""

    absent: dict[str, str] = {}
    for name, precision in keys:
        try:
            small = Setting((20, 10), batch_size=10, steps=2, precision=precision, network=(10,), device=device)
            cases[name].make(small).run()
        except ImportError as error:
            absent[name] = str(error)
    return absent


def make(
    keys: Iterable[Key], setting: Setting, cases: Mapping[str, Case] = CASES
) -> tuple[dict[Key, Runner], dict[Key, float | None]]:
    """The cases, each run once to warm up, and the MB that it took; None where that cannot be told."""

    runners: dict[Key, Runner] = {}
    memory: dict[Key, float | None] = {}
    for name, precision in keys:
        before = fresh_peak(setting.device)
        runners[name, precision] = runner = cases[name].make(replace(setting, precision=precision))
        runner.run()
        after = peak(setting.device)
        memory[name, precision] = None if before is None or after is None else max(0.0, after - before)
    return runners, memory


def alternate(runners: dict[Key, Runner], repeats: int) -> dict[Key, list[float]]:
    """Milliseconds a step, a list a case. Each repeat goes through all cases, the order turned by one."""
    keys = list(runners)
    found: dict[Key, list[float]] = {key: [] for key in keys}
    gc.collect()
    gc.freeze()  # what is there stays there, and need not be looked through before every timing
    for repeat in range(repeats):
        first = repeat % len(keys)
        for key in keys[first:] + keys[:first]:
            gc.collect()
            time.sleep(0.02)  # the last case's threads may still be spinning
            found[key].append(1000 * runners[key].run() / runners[key].steps)
    gc.unfreeze()
    return found


def kernels(runner: Runner, device: str) -> dict[str, float]:
    """Kernels that a step launches and their own microseconds, by torch's profiler; on the CPU of its operations."""
    kind = device.upper()
    with profile(activities=[getattr(ProfilerActivity, kind)]) as profiled:
        runner.run()
    events = [event for event in profiled.events() if event.device_type.name == kind]
    own = sum(event.device_time if kind == "CUDA" else event.self_cpu_time_total for event in events)
    return {"kernels_per_step": len(events) / runner.steps, "kernel_us_per_step": own / runner.steps}
