"""Check on an NVIDIA GPU what only a GPU can show: results, CUDA graphs, interrupted runs, and times of a step."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dbn.cli.command_line import run_script
from dbn.config.common import SeedOption
from dbn.errors import InputError

if TYPE_CHECKING:
    import torch

    from dbn.pretraining.trainer import LayerTrainer

SMALL: dict[str, Any] = {"hidden": (100,), "epochs": (3,), "batch_size": 50, "warmup_epochs": 0}
ROWS, WIDTH = 525, 200
SETTINGS: dict[str, dict[str, Any]] = {
    "cd": {},
    "cd, 3 steps": {"gibbs_steps": (3,)},
    "cd, not centered": {"centered": False},
    "pcd": {"estimator": "pcd"},
    "lagged-pcd": {"estimator": "lagged-pcd"},
    "pt": {"estimator": "pt"},
    "pt, centered": {"estimator": "pt", "centered": True},
    "penalties": {"l1": 0.001, "sparsity_target": 0.1, "max_norm": 1.0},
    "average": {"average": 0.9},
    "schedules": {"learning_rate": "0.1:0.01", "momentum": "0.5,0.9@2", "weight_decay": 0.001},
    "sampled bits": {"binarize": "sample"},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    **{name: {"optimizer": name} for name in ("adam", "adamw", "rmsprop", "nadam", "adagrad")},
}
NEAR = {"bf16": 0.05, "tf32": 0.02}
"""The tolerance of weights, mean |GPU − CPU| over mean |CPU − start|; elsewhere 0.005."""
FIGURES: dict[str, tuple[tuple[int, int], int, int, dict[str, Any], float | None]] = {
    "784-500, batch 100": ((784, 500), 100, 600, {}, 2.5),
    "784-500, batch 100, PCD": ((784, 500), 100, 600, {"estimator": "pcd"}, None),
    "784-500, batch 100, centered": ((784, 500), 100, 600, {"centered": True}, None),
    "784-500, batch 1,000": ((784, 500), 1000, 120, {}, 2.5),
    "784-500, batch 100, PT of ten": ((784, 500), 100, 120, {"estimator": "pt"}, None),
    "4096-4096, batch 1,000": ((4096, 4096), 1000, 30, {}, 1.8),
}
"""Sizes, batch, steps, options, and the ratio to the replayed products that is aimed at."""
COMPILED = ("pcd", "penalties", "bf16")
"""The settings that are compiled too."""
COMPILED_AIMS = {"float32": 1.1, "bf16": 1.8}
"""The ratio to the replayed products that is aimed at for the largest of these sizes, by precision."""


@dataclass(frozen=True, kw_only=True)
class CheckConfig(SeedOption):
    """Options of check_gpu.py."""

    device: Literal["cuda", "cpu"] = "cuda"
    """cpu: a rehearsal of what needs no GPU, in small."""


class Line(NamedTuple):
    """One line of the table."""

    what: str
    result: str
    """ok, FAILED, or skipped."""
    figure: str = ""


def main(config: CheckConfig) -> None:
    """Go through all checks and print the table; exit status 1 if one has failed."""
    import torch

    from dbn.text_tables import plain_table

    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("check_gpu needs an NVIDIA GPU, and torch finds none here: use --device cpu for a rehearsal")
    begin = time.monotonic()
    device = torch.device(config.device)
    if device.type == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    lines: list[Line] = []
    for check in CHECKS:
        try:
            lines += check(device, config.seed)
        except Exception as error:
            lines.append(Line(check.__name__, "FAILED", f"{type(error).__name__}: {error}".partition("\n")[0]))
    print(plain_table(("check", "result", "figure"), lines, "lll"))
    print(f"{time.monotonic() - begin:.0f} seconds")
    if any(line.result == "FAILED" for line in lines):
        sys.exit(1)


def layer(device: "torch.device", seed: int, **options: Any) -> "LayerTrainer":
    """A trainer of random bytes."""
    import torch

    from dbn.config.pretraining import Pretraining
    from dbn.models.scaling import Scaling
    from dbn.pretraining.layer_data import Unlabeled
    from dbn.pretraining.stack import new_rbm
    from dbn.pretraining.trainer import LayerTrainer

    shape = options.pop("rows", (ROWS, WIDTH))
    config = Pretraining(**(SMALL | {"seed": seed} | options))
    x = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)).to(device)
    with device:
        return LayerTrainer(new_rbm(shape[1], 1, config), [], Unlabeled(x, None, Scaling().to(device)), config)


def train(made: "LayerTrainer") -> str:
    """All epochs; the SHA-256 of everything that the next step would depend on."""
    from dbn.storage.tensors import state_bytes
    from dbn.training.loop import run_epochs

    metrics: list[dict[str, float]] = []

    def after_epoch(epoch: int, seconds: float) -> bool:
        metrics.append(made.chains.metrics())
        return False

    run_epochs(range(1, made.setting.epochs + 1), made.batches, made.step, after_epoch, device=made.device)
    return sha256(state_bytes(made.state() | {"metrics": metrics})).hexdigest()


@contextmanager
def means_alone() -> Iterator[None]:
    """In this context Bernoulli units take their means in place of samples, which are other ones on every device."""
    from dbn.models.units.bernoulli import Bernoulli

    sample = Bernoulli.sample
    Bernoulli.sample = lambda self, field, generator=None: self.mean(field).detach()  # type: ignore[method-assign]
    try:
        yield
    finally:
        Bernoulli.sample = sample  # type: ignore[method-assign]


def same_bytes(device: "torch.device", seed: int) -> list[Line]:
    """Captured twice and once eagerly, every setting ends in the same bytes."""
    from dbn.benchmarks.graphs import graphs

    lines = []
    for name, options in SETTINGS.items():
        if options.get("precision") and device.type == "cpu":
            continue
        found, captured = [], True
        for wanted in (True, True, False):
            with graphs(wanted):
                made = layer(device, seed, **options)
                captured &= not wanted or made.captured.recorder is not None
                found.append(train(made))
                captured &= not wanted or made.captured.recorder is not None
        same = len(set(found)) == 1
        how = "captured twice, eager once" if captured else "not captured"
        fails = not same or (device.type == "cuda" and not captured and name != "adagrad")
        lines.append(Line(f"same bytes: {name}", "FAILED" if fails else "ok", how))
    return lines


def compiled_steps(device: "torch.device", seed: int) -> list[Line]:
    """Compiled and captured, training ends twice in the same bytes; the first compiled gradient is the eager one."""
    from dbn.benchmarks.graphs import graphs
    from dbn.likelihood.gradient import gradient_of

    lines = []
    for name in COMPILED:
        options = SETTINGS[name] | {"rows": (500, WIDTH)}  # all batches alike: each length is compiled by itself
        if options.get("precision") and device.type == "cpu":
            continue
        with graphs(True):
            twice = [layer(device, seed, compile=True, **options) for _ in range(2)]
            same = len({train(made) for made in twice}) == 1
        done = all(made.compiled.wanted for made in twice)
        gradients = []
        for wanted in (False, True):
            made = layer(device, seed, compile=wanted, **options)
            for number, indices in zip(range(2), made.batches(1), strict=False):
                made.step(indices, 1, number)
            gradients.append(gradient_of(made.rbm.weight))
        error = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
        limit = NEAR.get(options.get("precision", ""), 1e-4)
        figure = f"compiled twice; gradient {error:.1e} ≤ {limit:g} from the eager one" if done else "not compiled"
        lines.append(Line(f"compiled: {name}", "ok" if same and done and error <= limit else "FAILED", figure))
    return lines


def as_on_the_cpu(device: "torch.device", seed: int) -> list[Line]:
    """With means in place of samples, training ends at the weights that it ends at on the CPU."""
    import torch

    lines = []
    for name, options in SETTINGS.items():
        if (
            options.get("estimator") == "pt"
            or "binarize" in options
            or (device.type == "cpu" and "precision" in options)
        ):
            continue  # swaps and bits are drawn
        plain = {key: value for key, value in options.items() if key != "precision"}
        with means_alone():
            here, there = layer(torch.device("cpu"), seed, **plain), layer(device, seed, **options)
            start = here.rbm.weight.detach().clone()
            there.rbm.load_state_dict(here.rbm.state_dict())
            if here.offsets and there.offsets:
                there.offsets.load_state({key: value.to(device) for key, value in here.offsets.state().items()})
            if here.averaged and there.averaged:
                there.averaged.module.load_state_dict(here.averaged.module.state_dict())
            train(here)
            train(there)
        learned = here.kept.weight.detach()
        error = float((there.kept.weight.detach().cpu() - learned).abs().mean() / (learned - start).abs().mean())
        limit = NEAR.get(options.get("precision", ""), 0.005)
        lines.append(Line(f"as on the CPU: {name}", "ok" if error <= limit else "FAILED", f"{error:.1e} ≤ {limit:g}"))
    return lines


def learns(device: "torch.device", seed: int) -> list[Line]:
    """With samples, bars and stripes of 3 × 3 are learned as well as on the CPU, by their exact likelihood."""
    import torch

    from dbn.config.pretraining import Pretraining
    from dbn.likelihood.exact import log_partition
    from dbn.models.scaling import Scaling
    from dbn.pretraining.layer_data import Unlabeled
    from dbn.pretraining.stack import new_rbm
    from dbn.pretraining.trainer import LayerTrainer

    bits = torch.tensor([[int(bit) for bit in f"{number:03b}"] for number in range(8)], dtype=torch.uint8)
    bars = bits[:, :, None].expand(8, 3, 3).reshape(8, 9)
    stripes = bits[:, None, :].expand(8, 3, 3).reshape(8, 9)
    rows = torch.cat([bars, stripes]).repeat(10, 1)
    lines = []
    for estimator in ("cd", "pcd", "pt"):
        options: dict[str, Any] = {"learning_rate": "0.2:0", "momentum": 0.5, "estimator": estimator, "seed": seed}
        config = Pretraining(hidden=(8,), epochs=(120,), batch_size=16, **options)
        found = []
        for place in (torch.device("cpu"), device):
            data = Unlabeled(rows.to(place), None, Scaling(1.0).to(place))
            with place:
                made = LayerTrainer(new_rbm(9, 1, config), [], data, config)
            train(made)
            rbm = made.kept.cpu().requires_grad_(False)
            found.append(float(-rbm.free_energy(rows.float()).mean()) - float(log_partition(rbm)))
        near = abs(found[1] - found[0]) <= 0.5
        lines.append(
            Line(f"learns: {estimator}", "ok" if near else "FAILED", f"{found[1]:.2f} nats, on the CPU {found[0]:.2f}")
        )
    return lines


KILLED = """
import sys, torch, dbn
x = torch.randint(256, (2000, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
dbn.pretrain(x, [50], epochs=400, batch_size=50, measure_every=50, run=sys.argv[1], device=sys.argv[2], seed=0)
"""


def killed_and_resumed(device: "torch.device", seed: int) -> list[Line]:
    """A run that SIGKILL ends resumes to the bytes of one that nothing has ended."""
    import torch

    import dbn
    from dbn.benchmarks.graphs import graphs

    x = torch.randint(256, (2000, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"epochs": 400 if device.type == "cuda" else 4, "batch_size": 50, "measure_every": 50}
    with tempfile.TemporaryDirectory() as folder, graphs(True):
        runs = [Path(folder, name) for name in ("whole", "killed")]
        dbn.pretrain(x, [50], **options, run=runs[0], device=device.type, seed=0)
        if device.type == "cpu":
            return [Line("killed and resumed", "skipped", "a rehearsal does not wait for it")]
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(runs[1]), device.type])
        log, until = runs[1] / "metrics.jsonl", time.monotonic() + 60
        while time.monotonic() < until and (not log.exists() or log.read_bytes().count(b"\n") < 20):
            time.sleep(0.05)
        process.kill()
        process.wait()
        done = log.read_bytes().count(b"\n")
        dbn.pretrain(x, [50], **options, run=runs[1], device=device.type, seed=0, resume=True)
        same = len({(run / "dbn.safetensors").read_bytes() for run in runs}) == 1
    fails = not same or not 0 < done < options["epochs"]
    return [
        Line("killed and resumed", "FAILED" if fails else "ok", f"killed after epoch {done} of {options['epochs']}")
    ]


def chains_and_finetuning(device: "torch.device", seed: int) -> list[Line]:
    """Captured twice and once eagerly, AIS, samples and fine-tuning end in the same bytes, resumed runs too."""
    from dbn.benchmarks.same_bytes import agreeing, resumed_alike

    found = [*agreeing(device, seed), *resumed_alike(device, seed)]
    return [Line(each.what, "ok" if each.same else "FAILED", each.figure) for each in found]


def microseconds(run: Callable[[], float], steps: int, repeats: int = 5) -> float:
    """For a step, where a run gives the seconds of so many; the median after a run to warm up."""
    run()
    return 1e6 * median(run() for _ in range(repeats)) / steps


def products(sizes: tuple[int, int], batch: int, precision: str) -> tuple[float, ...]:
    """Microseconds of the five matrix products of CD-1: launched one by one, and replayed as a graph."""
    import torch

    from dbn.benchmarks.graphs import graphs
    from dbn.benchmarks.products import cd1_products
    from dbn.benchmarks.running import repeated
    from dbn.training.device import tf32_products

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    v, h = (torch.rand(batch, size, device="cuda").to(dtype) for size in sizes)
    step, _ = cd1_products(v, h, torch.randn(sizes[1], sizes[0], device="cuda").to(dtype))
    found = []
    for captured in (False, True):
        with tf32_products(precision == "tf32"), graphs(captured):
            found.append(microseconds(repeated(step, 50, "cuda", capturable=True), 50))
    return tuple(found)


def step_time(device: "torch.device", seed: int, steps: int, *, captured: bool, **options: Any) -> float:
    """Microseconds of a step in whole epochs."""
    from dbn.benchmarks.graphs import graphs
    from dbn.benchmarks.running import clocked

    with graphs(captured):
        made = layer(device, seed, **options)
        epochs = iter(range(1, 51))

        def epoch() -> None:
            number = next(epochs)
            for place, indices in enumerate(made.batches(number)):
                made.step(indices, number, place)

        return microseconds(clocked(epoch, "cuda"), steps, repeats=3 if captured else 1)


def times(device: "torch.device", seed: int) -> list[Line]:
    """Microseconds of a step in whole epochs, over the products replayed as a graph."""
    import torch

    from dbn.benchmarks.graphs import graphs
    from dbn.benchmarks.running import Runner, over
    from dbn.benchmarks.timing import kernels

    if device.type != "cuda":
        return [Line("times of a step", "skipped", "they need a GPU")]
    lines, plain = [], 0.0
    for name, (sizes, batch, steps, options, aim) in FIGURES.items():
        precisions = ("float32",) if options else ("float32", "tf32", "bf16")
        for precision in precisions:
            given = {"hidden": sizes[1:], "batch_size": batch, "precision": precision, "epochs": (50,)} | options
            rows = (batch * steps, sizes[0])
            eager = step_time(device, seed, steps, captured=False, rows=rows, **given)
            torch.cuda.reset_peak_memory_stats()
            captured = step_time(device, seed, steps, captured=True, rows=rows, **given)
            peak = torch.cuda.max_memory_allocated() / 2**20
            with graphs(False):
                few = layer(device, seed, **given | {"rows": (batch * 5, sizes[0])})
                launched = kernels(Runner(over(few.batches(1), few.step, "cuda"), 5, few), "cuda")
            one_by_one, replayed = products(sizes, batch, precision)
            ratio = captured / replayed
            plain = captured if name == "784-500, batch 100" and precision == "float32" else plain
            figure = (
                f"{captured:,.0f} µs, eager {eager:,.0f}; products {replayed:,.0f}, eager {one_by_one:,.0f}; "
                f"ratio {ratio:.2f}"
                + (f" (aim {aim})" if aim else f", over CD-1 {captured / plain:.2f}")
                + f"; {launched['kernels_per_step']:.0f} kernels of {launched['kernel_us_per_step']:,.0f} µs"
                + f"; {peak:,.0f} MiB"
            )
            lines.append(Line(f"{name}, {precision}", "ok", figure))
    return lines


def compiled_times(device: "torch.device", seed: int) -> list[Line]:
    """Microseconds of captured steps of the largest and of the usual size, compiled and not, over the products."""
    if device.type != "cuda":
        return [Line("times of a compiled step", "skipped", "they need a GPU")]
    lines = []
    for name in ("784-500, batch 100", "4096-4096, batch 1,000"):
        sizes, batch, steps, *_ = FIGURES[name]
        for precision, aim in COMPILED_AIMS.items():
            given = {"hidden": sizes[1:], "batch_size": batch, "precision": precision, "epochs": (50,)}
            rows = (batch * steps, sizes[0])
            plain, compiled = (
                step_time(device, seed, steps, captured=True, rows=rows, compile=wanted, **given)
                for wanted in (False, True)
            )
            replayed = products(sizes, batch, precision)[1]
            figure = f"{compiled:,.0f} µs, not compiled {plain:,.0f}; ratio {compiled / replayed:.2f}"
            figure += f" (aim {aim}), not compiled {plain / replayed:.2f}" if sizes[0] == 4096 else ""
            lines.append(Line(f"compiled: {name}, {precision}", "ok", figure))
    return lines


def annealing(device: "torch.device", seed: int) -> list[Line]:
    """Seconds of AIS as it is published: 100 chains, 14,500 steps, 784-500, with graphs and without."""
    import torch

    from dbn.benchmarks.graphs import graphs
    from dbn.benchmarks.running import clocked
    from dbn.likelihood.ais import ais
    from dbn.likelihood.exact import log_partition
    from dbn.models.rbm import RBM
    from dbn.models.units.bernoulli import Bernoulli

    def random_rbm(sizes: tuple[int, int]) -> RBM:
        rbm = RBM(Bernoulli(sizes[0]), Bernoulli(sizes[1]))
        torch.nn.init.normal_(rbm.weight, 0.0, 0.1, generator=torch.Generator().manual_seed(seed))
        return rbm.requires_grad_(False).to(device)

    small = random_rbm((30, 12))
    found = ais(small, torch.rand(50, 30).round().to(device), temperatures=1000, seed=seed)
    exact, about = float(log_partition(small)), (found.lower, found.upper)
    lines = [
        Line(
            "AIS against the exact log Z",
            "ok" if about[0] - 0.1 < exact < about[1] + 0.1 else "FAILED",
            f"{about[0]:.2f} … {about[1]:.2f}, exact {exact:.2f}",
        )
    ]
    if device.type == "cuda":
        large, x, seconds, values = random_rbm((784, 500)), torch.rand(100, 784).round().to(device), [], []
        for captured in (False, True):
            with graphs(captured):
                work = clocked(lambda: values.append(ais(large, x, temperatures=14_501, seed=seed)), "cuda")
                seconds.append(work())
        own = table_times(("ais-products-graph",), device)["ais-products-graph"]
        figure = (
            f"{seconds[1]:.2f} s, eager {seconds[0]:.2f}; ratio to the products {seconds[1] / 14_500 / own * 1e6:.2f}"
        )
        lines.append(Line("AIS, 14,501 temperatures", "ok" if values[0] == values[1] else "FAILED", figure))
    return lines


def table_times(names: tuple[str, ...], device: "torch.device") -> dict[str, float]:
    """Microseconds a step of cases of `torch-dbn benchmark --device cuda` and of their baselines, medians of five."""
    from dbn.benchmarks.cases import plan
    from dbn.benchmarks.graphs import cases_on_gpu
    from dbn.benchmarks.running import Setting
    from dbn.benchmarks.timing import alternate, make

    cases = cases_on_gpu()
    runners, _ = make(plan(names, ("float32",), cases), Setting(device=device.type), cases)
    return {name: 1000 * median(ms) for (name, _), ms in alternate(runners, 5).items()}


def finetuning(device: "torch.device", seed: int) -> list[Line]:
    """Microseconds of a step of fine-tuning 784-500-500-2000-10, over its products replayed as a graph."""
    what = "fine-tuning, batch 100"
    if device.type != "cuda":
        return [Line(what, "skipped", "it needs a GPU")]
    found = table_times(("finetune-step-graph",), device)
    step, eager, replayed, one_by_one = (
        found[name] for name in ("finetune-step-graph", "finetune-step", "finetune-products-graph", "finetune-products")
    )
    figure = f"{step:,.0f} µs, eager {eager:,.0f}; products {replayed:,.0f}, eager {one_by_one:,.0f}"
    return [Line(what, "ok", f"{figure}; ratio {step / replayed:.2f}")]


def together(device: "torch.device", seed: int) -> list[Line]:
    """Runs of fine-tuning that train together end where each ends alone; how much less time a study takes by them."""
    from dbn.benchmarks.graphs import graphs
    from dbn.benchmarks.running import Setting
    from dbn.benchmarks.same_bytes import FINETUNED, SIZES
    from dbn.benchmarks.together import both_ways

    on_gpu, lines = device.type == "cuda", []
    ways = {"eager": False, "captured": True} if on_gpu else {"eager": False}
    small = Setting((SIZES[0], 1), 50, 11, network=(SIZES[1], 10), device=device.type)
    for name, options in FINETUNED.items():
        limit = NEAR.get(options.get("precision", ""), 0.005)
        for how, captured in ways.items() if on_gpu or "precision" not in options else ():
            with graphs(captured):
                apart = both_ways(small, 2, (0.03, 0.1), 5, **options).apart
            result = "ok" if apart <= limit else "FAILED"
            lines.append(Line(f"together as alone: {name}, {how}", result, f"{apart:.1e} ≤ {limit:g}"))
    study = Setting((784, 1), 50, 20, device=device.type) if on_gpu else Setting((20, 1), 50, 5, network=(10,))
    for precision in ("float32", "bf16") if on_gpu else ("float32",):
        for how, captured in ways.items():
            dropout = {"input_dropout": 0.2, "hidden_dropout": 0.5}
            with graphs(captured):
                found = both_ways(study, 10, (0.01, 0.03, 0.1), 5, precision=precision, **dropout)
            figure = (
                f"an epoch of 30 runs {1000 * found.together:,.0f} ms, one by one {1000 * found.alone:,.0f}; "
                f"ratio {found.alone / found.together:.1f} (aim 8)"
            )
            lines.append(Line(f"study at 1,000 labels, {precision}, {how}", "ok", figure))
    return lines


CHECKS: list[Callable[["torch.device", int], list[Line]]] = [
    same_bytes,
    compiled_steps,
    as_on_the_cpu,
    learns,
    chains_and_finetuning,
    killed_and_resumed,
    annealing,
    finetuning,
    together,
    times,
    compiled_times,
]


if __name__ == "__main__":
    run_script(main, CheckConfig, __doc__)
