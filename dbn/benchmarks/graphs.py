"""The cases on a GPU: each as it is, and with its steps, or its products, replayed as CUDA graphs (`dbn.capture`)."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dbn.benchmarks.cases import CASES
from dbn.benchmarks.running import Case, Runner, Setting

SWITCH = "DBN_CUDA_GRAPHS"


@contextmanager
def graphs(wanted: bool) -> Iterator[None]:
    """In this context steps are captured, or not."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = str(int(wanted))
    try:
        yield
    finally:
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before


def _with_graphs(make: Callable[[Setting], Runner], wanted: bool) -> Callable[[Setting], Runner]:
    def made(setting: Setting) -> Runner:
        with graphs(wanted):
            runner = make(setting)

        def run() -> float:
            with graphs(wanted):
                return runner.run()

        return runner._replace(run=run)

    return made


def cases_on_gpu() -> dict[str, Case]:
    """Ours and the products by name, and by the name with "-graph", whose baselines are graphs too, or itself without.

    Others are left out: they are timed on the CPU.
    """
    found: dict[str, Case] = {}
    for name, case in CASES.items():
        if case.on_gpu:
            baselines = tuple(each for each in case.baselines if CASES[each].on_gpu)
            as_graphs = (*(f"{each}-graph" for each in baselines), name)
            found[name] = case._replace(make=_with_graphs(case.make, False), baselines=baselines)
            found[f"{name}-graph"] = case._replace(make=_with_graphs(case.make, True), baselines=as_graphs)
    return found
