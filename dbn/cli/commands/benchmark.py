"""Time training against its bare matrix products and against other packages."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from dbn.cli.commands import Command
from dbn.config.common import MeasurementConfig
from dbn.config.validation import Count, check_distinct
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(MeasurementConfig):
    """Options of benchmark."""

    device: Literal["cpu", "cuda"] = "cpu"
    """cuda: time our training and the products on an NVIDIA GPU by its own events, as they are and, under names that
    end in -graph, replayed as CUDA graphs, with the kernels of a step."""
    cases: tuple[str, ...] | None = None
    """Names such as cd1-epoch, pt-step or ais, timed with their baselines; an unknown one is answered with all names
    (default: a standard set of a few minutes)."""
    full: bool = False
    """Also time batch sizes of 10 to 1,000 and 100 to 4,096 hidden units, over six times the examples, and all layers
    of 500-500-2000: much longer."""
    precision: tuple[Literal["float32", "bf16"], ...] | None = None
    """Precisions of matrix products (default: float32, and bf16 where the processor has it)."""
    compile: bool = False
    """Compile the steps of pre-training, but for parallel tempering, as `pretrain --compile` does."""
    visible: Count = 784
    """Visible units."""
    hidden: Count = 500
    """Hidden units."""
    batch_size: Count = 100
    """Examples per step."""
    steps: Count = 100
    """Steps per epoch, timed together."""
    repeats: Count = 7
    """Repetitions of each case, in alternation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distinct(self, "cases", "precision")


def main(config: BenchmarkConfig) -> None:
    """Size after size: make the cases, warm up, time them in alternation, print a table."""
    import torch

    from dbn.benchmarks.cases import CASES, GRID, grid, plan
    from dbn.benchmarks.graphs import cases_on_gpu
    from dbn.benchmarks.machine import describe, machine, peak_memory
    from dbn.benchmarks.report import RULE, kernel_table, results_of, table
    from dbn.benchmarks.running import Setting
    from dbn.benchmarks.timing import alternate, available, kernels, make, rehearse
    from dbn.storage.files import atomic_write

    device, on_gpu = config.device, config.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise InputError("--device cuda needs an NVIDIA GPU, and torch finds none here: leave it out")
    cases = cases_on_gpu() if on_gpu else CASES
    precisions, notes = available(config.precision, device)
    names = config.cases or tuple(name for name, case in cases.items() if case.standard)
    base = Setting(
        (config.visible, config.hidden), config.batch_size, config.steps, device=device, compile=config.compile
    )
    todo = [(base, plan(names, precisions, cases))]
    if config.full:
        at_all_sizes = plan(config.cases or [name for name in GRID if name in cases], precisions, cases)
        todo += [(setting, at_all_sizes) for setting in grid(base)]
    about = machine(device)
    absent = rehearse((key for _, baselines in todo for key in baselines), cases, device)
    notes += [f"{name} was left out: {why} (pip install 'torch-dbn[bench]')." for name, why in absent.items()]

    print(describe(about), *notes, f"{config.repeats} repeats in alternation after a warm-up; {RULE}.", sep="\n")
    results: list[dict[str, Any]] = []
    for setting, baselines in todo:
        runners, memory = make([key for key in baselines if key[0] not in absent], setting, cases)
        if runners:
            found = results_of(setting, runners, alternate(runners, config.repeats), memory, baselines)
            print(f"\n{setting}\n{table(found)}", flush=True)
            if on_gpu:
                for each in found:
                    each |= kernels(runners[each["case"], each["precision"]], device)
                print(f"\n{kernel_table(found)}", flush=True)
            results += found
    peak = peak_memory()
    if config.output:
        report = {"machine": about, "rule": RULE, "repeats": config.repeats, "notes": notes, "results": results}
        atomic_write(config.output, (json.dumps(report | {"peak_memory_mb": peak}, indent=2) + "\n").encode())
    whose = " on the device" if on_gpu else ""
    print(
        f"\nPeak memory of the process: {peak:,.0f} MB. That of a case is what its making and first epoch added{whose}."
    )


COMMAND = Command(main, BenchmarkConfig, __doc__)
