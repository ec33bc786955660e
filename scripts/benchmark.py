"""Time our training against the matrix products that it cannot do without, and against what others do instead."""

import gc
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dbn.cli.command_line import run_script
from dbn.config.validation import check_distinct, check_integer, check_not_empty, normalize_fields
from dbn.errors import InputError

if TYPE_CHECKING:
    from bench.cases import Key
    from bench.running import Runner, Setting


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """scripts/benchmark.py."""

    cases: tuple[str, ...] | None = None
    """Names such as cd1-epoch, pt-step or ais, timed with what they are compared with; an unknown one is answered with
    all names. Left out, a standard set of a few minutes."""
    full: bool = False
    """Also at batch sizes of 10 to 1,000 and 100 to 4,096 hidden units, over six times the examples, and for all layers
    of 500-500-2000: much longer."""
    precision: tuple[Literal["float32", "bf16"], ...] | None = None
    """Of our matrix products; left out, float32, and bf16 where the processor has such products."""
    visible: int = 784
    """Visible units."""
    hidden: int = 500
    """Hidden units."""
    batch_size: int = 100
    """Examples in one step."""
    steps: int = 100
    """Steps in an epoch, all of which are timed at once."""
    repeats: int = 7
    """Times that each case is timed, in alternation."""
    output: Path | None = None
    """A JSON file for the figures."""

    def __post_init__(self) -> None:
        normalize_fields(self)
        check_not_empty(self, "cases", "precision")
        check_distinct(self, "cases", "precision")
        check_integer(self, 1, "visible", "hidden", "batch_size", "steps", "repeats")
        if self.output and (self.output.is_dir() or not self.output.parent.is_dir()):
            raise InputError(f"--output {self.output} cannot be written: name a file in a folder that is there.")


def main(config: BenchmarkConfig) -> None:
    """Size after size: make the cases, warm up, time them in alternation, print a table."""
    from bench.cases import CASES, GRID, grid, plan
    from bench.machine import describe, machine, peak_memory
    from bench.report import RULE, results_of, table
    from bench.running import Setting

    from dbn.storage.files import atomic_write

    precisions, notes = available(config.precision)
    names = config.cases or tuple(name for name, case in CASES.items() if case.standard)
    base = Setting((config.visible, config.hidden), config.batch_size, config.steps)
    todo = [(base, plan(names, precisions))]
    if config.full:
        at_all_sizes = plan(config.cases or GRID, precisions)
        todo += [(setting, at_all_sizes) for setting in grid(base)]
    about = machine()
    absent = rehearse(key for _, baselines in todo for key in baselines)
    notes += [f"{name} was left out: {why} (pip install 'torch-dbn[bench]')." for name, why in absent.items()]

    print(describe(about), *notes, f"{config.repeats} repeats in alternation after a warm-up; {RULE}.", sep="\n")
    results: list[dict[str, Any]] = []
    for setting, baselines in todo:
        runners, memory = make([key for key in baselines if key[0] not in absent], setting)
        if runners:
            found = results_of(setting, runners, alternate(runners, config.repeats), memory, baselines)
            print(f"\n{setting}\n{table(found)}", flush=True)
            results += found
    peak = peak_memory()
    print(f"\nPeak memory of the process: {peak:,.0f} MB. That of a case is what its making and first epoch added.")
    if config.output:
        report = {"machine": about, "rule": RULE, "repeats": config.repeats, "notes": notes, "results": results}
        atomic_write(config.output, (json.dumps(report | {"peak_memory_mb": peak}, indent=2) + "\n").encode())


def available(asked: tuple[str, ...] | None) -> tuple[tuple[str, ...], list[str]]:
    """The precisions to time, and a sentence where one is left out; InputError where one is asked for and not there."""
    from dbn.training.device import matmul_dtype, pick_device

    try:
        for name in asked or ("float32", "bf16"):
            matmul_dtype(name, pick_device("cpu"))
    except InputError:
        if asked:
            raise
        return ("float32",), ["bf16 was left out: this processor has no products in bfloat16."]
    return asked or ("float32", "bf16"), []


def rehearse(keys: "Iterable[Key]") -> dict[str, str]:
    """Run every case once in small, so that all is imported; the names of those that cannot be, and why."""
    from bench.cases import CASES
    from bench.running import Setting

    absent: dict[str, str] = {}
    for name, precision in keys:
        try:
            CASES[name].make(Setting((20, 10), batch_size=10, steps=2, precision=precision, network=(10,))).run()
        except ImportError as error:
            absent[name] = str(error)
    return absent


def make(keys: "Iterable[Key]", setting: "Setting") -> "tuple[dict[Key, Runner], dict[Key, float | None]]":
    """The cases, each run once to warm up, and the MB that it took; None where that cannot be told."""
    from bench.cases import CASES
    from bench.machine import fresh_peak, status

    runners: dict[Key, Runner] = {}
    memory: dict[Key, float | None] = {}
    for name, precision in keys:
        before = fresh_peak()
        runners[name, precision] = runner = CASES[name].make(replace(setting, precision=precision))
        runner.run()
        after = status("VmHWM")
        memory[name, precision] = None if before is None or after is None else max(0.0, after - before)
    return runners, memory


def alternate(runners: "dict[Key, Runner]", repeats: int) -> "dict[Key, list[float]]":
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


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
