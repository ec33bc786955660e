"""What the benchmark times is what it says, and its arithmetic is right; how long anything takes is not asked here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recording import CpuRecorder

from dbn.benchmarks import machine, timing
from dbn.benchmarks.cases import CASES, GRID, grid, plan
from dbn.benchmarks.graphs import SWITCH, cases_on_gpu
from dbn.benchmarks.others import TutorialRBM
from dbn.benchmarks.ours import layer_trainer
from dbn.benchmarks.products import five_products, network_products, two_products
from dbn.benchmarks.report import kernel_table, results_of, summary, table
from dbn.benchmarks.running import CHAINS, PER_STEP, Runner, Setting
from dbn.cli.commands.benchmark import COMMAND
from dbn.errors import InputError
from dbn.likelihood.estimates import estimate_log_z
from dbn.likelihood.exact import log_partition
from dbn.likelihood.gradient import set_gradient
from dbn.models.mlp import linear_layers
from dbn.models.rbm import RBM
from dbn.models.units.bernoulli import Bernoulli
from dbn.pretraining.layer_run import train_layer
from dbn.sampling.contrastive_divergence import DataChains
from dbn.sampling.parallel_tempering import TemperedChains
from dbn.training.optimizers import make_optimizer

SCRIPTS = Path(__file__).parents[2] / "scripts"
TINY = Setting((12, 7), batch_size=5, steps=4, network=(6, 3))
OTHERS = ("scikit-learn-epoch", "rbms-epoch", "rbms-centred-epoch", "learnergy-epoch", "learnergy-step")
BF16 = torch.cpu._is_avx512_bf16_supported()


def runner(name: str, setting: Setting = TINY) -> Runner:
    torch.manual_seed(0)
    return CASES[name].make(setting)


# The products


def test_the_five_products() -> None:
    made = five_products(TINY)
    assert made.run() > 0
    v, h, weight, up, down = (made.state[name] for name in ("v", "h", "weight", "up", "down"))
    assert (v.shape, h.shape, weight.shape) == ((5, 12), (5, 7), (7, 12))
    torch.testing.assert_close(up, v @ weight.T)
    torch.testing.assert_close(down, h @ weight)
    torch.testing.assert_close(made.state["gradient"], h.T @ v - up.T @ down)
    assert five_products(TINY, torch.bfloat16).state["gradient"].dtype == torch.bfloat16


def test_the_two_products() -> None:
    made = two_products(TINY)
    made.run()
    v, h, weight = (made.state[name] for name in ("v", "h", "weight"))
    assert (made.steps, v.shape, h.shape) == (PER_STEP * 4, (CHAINS, 12), (CHAINS, 7))
    torch.testing.assert_close(made.state["up"], v @ weight.T)
    torch.testing.assert_close(made.state["down"], h @ weight)


def test_the_products_of_a_network_are_those_of_its_forward_and_backward_pass() -> None:
    made = network_products(TINY)
    made.run()
    x, weights = made.state["x"], made.state["weights"]
    assert [tuple(weight.shape) for weight in weights] == [(6, 12), (3, 6), (10, 3)]
    for n, weight in enumerate(weights):
        below, learned = x[n].clone().requires_grad_(), weight.clone().requires_grad_()
        above = below @ learned.T
        above.backward(x[n + 1])
        torch.testing.assert_close(made.state["forward"][n + 1], above.detach())
        torch.testing.assert_close(made.state["gradients"][n], learned.grad)
        if n:  # nobody asks for the gradient of the data
            torch.testing.assert_close(made.state["backward"][n], below.grad)


# Training


OURS = [name for name in CASES if name.startswith(("cd", "pcd", "pt"))]


@pytest.mark.parametrize("name", OURS)
def test_our_steps_are_as_many_as_promised_and_take_every_example_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = runner(name)
    trainer, seen = made.state, []
    step, before = trainer.step, trainer.rbm.weight.detach().clone()

    def watch(indices: torch.Tensor, epoch: int, number: int) -> None:
        seen.append(indices)
        step(indices, epoch, number)

    monkeypatch.setattr(trainer, "step", watch)
    assert made.run() > 0
    assert made.steps == len(seen) == (1 if name.startswith(("pt", "cd1-wide")) else 4)
    assert torch.cat(seen).sort().values.tolist() == list(range(len(trainer.data)))
    assert (trainer.rbm.weight - before).abs().max() > 0
    assert trainer.rbm.weight.isfinite().all()
    assert trainer.epoch == name.endswith("-epoch")


def test_an_epoch_is_that_of_pretraining() -> None:
    made = runner("cd1-epoch")
    made.run()
    torch.manual_seed(0)
    other = layer_trainer(TINY, epochs=(1,))
    train_layer(other, None, progress=False)
    torch.testing.assert_close(made.state.rbm.weight, other.rbm.weight, rtol=0, atol=0)


def test_options_reach_the_trainers() -> None:
    assert runner("cd10-epoch").state.chains.steps == 10
    assert runner("pcd1-centred-step").state.offsets is not None
    assert type(runner("cd1-adam-epoch").state.optimizer).__name__ == "Adam"
    tempered, wide = (runner(name).state for name in ("pt-epoch", "cd1-wide-epoch"))
    assert isinstance(tempered.chains, TemperedChains)
    tempered.step(torch.arange(5), 1, 0)
    assert len(tempered.chains.betas) == 10
    assert len(tempered.chains.state()["v"]) == wide.config.batch_size == 50


def test_upper_layers_learn_features() -> None:
    trainer = layer_trainer(Setting((12, 7, 5), 5, 4))
    assert (trainer.layer, trainer.rbm.weight.shape) == (2, (5, 7))
    x = trainer.data.batch(torch.arange(20))
    torch.testing.assert_close(x, trainer.below[0].up(trainer.data.raw / 255))


@pytest.mark.skipif(not BF16, reason="this processor has no bfloat16 products")
def test_precision_reaches_the_trainer() -> None:
    keys = [("cd1-epoch", precision) for precision in ("float32", "bf16")]
    runners, _ = timing.make(keys, TINY)
    assert [runners[key].state.precision for key in keys] == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("name", ["finetune-step", "finetune-epoch"])
def test_finetuning_learns_with_the_sizes_and_steps_promised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = runner(name)
    fit, seen = made.state, []
    step = fit._step

    def watch(indices: torch.Tensor, epoch: int, number: int) -> None:
        seen.append(indices)
        step(indices, epoch, number)

    monkeypatch.setattr(fit, "_step", watch)
    layers = linear_layers(fit.network)
    before = [layer.weight.detach().clone() for layer in layers]
    assert [tuple(layer.weight.shape) for layer in layers] == [(6, 12), (3, 6), (10, 3)]
    assert made.run() > 0
    assert torch.cat(seen).sort().values.tolist() == list(range(20))
    assert all((layer.weight != old).any() for layer, old in zip(layers, before, strict=True))
    made.run()
    assert len(seen) == 2 * made.steps == 8


def test_annealing_estimates_the_partition_function() -> None:
    made = runner("ais")
    made.run()
    found, path = made.state["found"], made.state["path"]
    assert made.steps == PER_STEP * 4
    assert found.log_weights.shape == (CHAINS,)
    error = 5 * float(found.log_weights.std()) / CHAINS**0.5
    assert abs(estimate_log_z(found).log_z - log_partition(path.rbm)) < error + 1e-5


def test_the_tutorial_makes_our_update() -> None:
    """Where hidden units are sure, and drawing them makes no difference."""
    torch.manual_seed(0)
    tutorial = TutorialRBM(6, 4)
    tutorial.weight.normal_()
    tutorial.visible_bias.normal_()
    tutorial.hidden_bias.copy_(torch.tensor([60.0, -60.0, 60.0, -60.0]))
    rbm = RBM(Bernoulli(6), Bernoulli(4))
    with torch.no_grad():
        rbm.weight.copy_(tutorial.weight.T)
        rbm.visible.bias.copy_(tutorial.visible_bias)
        rbm.hidden.bias.copy_(tutorial.hidden_bias)
    start = tutorial.weight.clone()
    optimizer = make_optimizer("sgd", rbm.parameters(), learning_rate=0.1, momentum=0.5, weight_decay=2e-4)
    for _ in range(3):
        x = torch.rand(5, 6)
        tutorial.step(x)
        negatives = DataChains(1).negatives(rbm, x, rbm.hidden_field(x), torch.Generator()).states
        set_gradient(rbm, x, negatives)
        optimizer.step()
    assert (tutorial.weight - start).abs().max() > 0.01
    torch.testing.assert_close(tutorial.weight, rbm.weight.detach().T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tutorial.visible_bias, rbm.visible.bias.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tutorial.hidden_bias, rbm.hidden.bias.detach(), rtol=1e-5, atol=1e-6)


def test_the_tutorial_draws_hidden_units() -> None:
    tutorial = TutorialRBM(6, 4)
    start = [value.clone() for value in (tutorial.weight, tutorial.visible_bias, tutorial.hidden_bias)]
    steps = []
    for _ in range(2):
        tutorial.weight, tutorial.visible_bias, tutorial.hidden_bias = (value.clone() for value in start)
        tutorial.weight_step = torch.zeros(6, 4)
        tutorial.step(torch.ones(3, 6))
        steps.append(tutorial.weight - start[0])
    assert (steps[0] != steps[1]).any()
    assert (steps[0] != 0).all()


@pytest.mark.parametrize("name", ["tutorial-step", "tutorial-epoch"])
def test_the_tutorial_takes_as_many_steps_as_promised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    monkeypatch.setattr(TutorialRBM, "step", lambda _, v: batches.append(v))
    made = runner(name)
    made.run()
    assert [tuple(batch.shape) for batch in batches] == [(5, 12)] * made.steps
    if name == "tutorial-epoch":
        assert len(torch.cat(batches).unique(dim=0)) == 20


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_others_learn(name: str) -> None:
    pytest.importorskip(name.split("-")[0].replace("scikit", "sklearn"))
    made = runner(name)
    weight: Callable[[], Any] = {
        "scikit": lambda: torch.tensor(made.state.components_.T.copy()),
        "rbms": lambda: made.state.weight_matrix,
        "learnergy": lambda: made.state.W.detach(),
    }[name.split("-")[0]]
    before = weight().clone()
    assert made.run() > 0
    assert (made.steps, weight().dtype, weight().shape) == (4, torch.float32, (12, 7))
    assert (weight() - before).abs().max() > 0


# What is timed, and with what it is compared


def test_the_plan_has_every_baseline_in_the_right_precision() -> None:
    both = ("float32", "bf16")
    found = plan(["cd1-epoch", "scikit-learn-epoch", "pt-step", "ais", "products-bf16"], both)
    assert found["cd1-epoch", "bf16"] == found["products-bf16", "bf16"] == [("products", "float32")]
    assert found["scikit-learn-epoch", "float32"] == [("pcd1-epoch", each) for each in both]
    assert found["pt-step", "bf16"] == [("cd1-wide-step", "bf16")]
    assert found["pcd1-epoch", "bf16"] == [("products", "float32"), ("cd1-epoch", "bf16")]
    assert all(key in found for baselines in found.values() for key in baselines)
    assert list(plan(["scikit-learn-epoch"], ("bf16",))) == [
        ("products", "float32"),
        ("cd1-epoch", "bf16"),
        ("pcd1-epoch", "bf16"),
        ("scikit-learn-epoch", "float32"),
    ]


def test_every_name_in_the_tables_is_a_case() -> None:
    assert {name for case in CASES.values() for name in case.baselines} | set(GRID) <= set(CASES)


def test_the_grid() -> None:
    settings = grid(Setting())
    assert len(settings) == len(set(settings)) == 12 - 1 + 1 + 2
    assert Setting((784, 4096), 1000, 10) in settings
    assert Setting((784, 100), 10, 1000) in settings
    assert Setting((784, 500), 100, 600) in settings
    assert {setting.sizes for setting in settings} >= {(784, 500, 500), (784, 500, 500, 2000)}
    assert Setting() not in settings


def test_cases_alternate_in_a_turning_order() -> None:
    order: list[str] = []

    def made(name: str, seconds: float) -> Runner:
        def run() -> float:
            order.append(name)
            return seconds * len(order)

        return Runner(run, 10, None)

    found = timing.alternate({("a", "float32"): made("a", 1.0), ("b", "float32"): made("b", 2.0)}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {("a", "float32"): [100.0, 400.0, 500.0], ("b", "float32"): [400.0, 600.0, 1200.0]}


# On a GPU, rehearsed without one


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[CpuRecorder]:
    """Of products, which are replayed where graphs are asked for."""
    made: list[CpuRecorder] = []

    def recorder(generator: torch.Generator) -> CpuRecorder | None:
        if os.environ.get(SWITCH) != "1":
            return None
        made.append(CpuRecorder(generator))
        return made[-1]

    monkeypatch.setattr("dbn.benchmarks.running.graph_recorder", recorder)
    return made


def test_each_case_has_one_with_graphs() -> None:
    cases = cases_on_gpu()
    assert not set(cases) & {*OTHERS, "tutorial-step"}
    assert {f"{name}-graph" for name in cases if not name.endswith("-graph")} <= set(cases)
    assert plan(["ais-graph"], ["float32"], cases) == {
        ("ais-products", "float32"): [],
        ("ais-products-graph", "float32"): [("ais-products", "float32")],
        ("ais", "float32"): [("ais-products", "float32")],
        ("ais-graph", "float32"): [("ais-products-graph", "float32"), ("ais", "float32")],
    }
    with pytest.raises(InputError, match="--cases tutorial-step is not known: choose from products, products-graph, "):
        plan(["tutorial-step"], ["float32"], cases)


def test_products_are_replayed_and_training_asks_for_graphs(
    recorders: list[CpuRecorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    asked = []
    monkeypatch.setattr("dbn.capture.graph_recorder", lambda _: asked.append(os.environ[SWITCH]))
    cases = cases_on_gpu()
    baselines = plan(["cd1-step-graph", "ais-graph", "finetune-step-graph"], ["float32"], cases)
    assert timing.rehearse(baselines, cases) == {}
    recorders.clear()
    runners, memory = timing.make(baselines, TINY, cases)
    # Steps of training are made once, and chains at every run.
    assert [asked.count(wanted) for wanted in "01"] == [2 * 3, 2 * 3]
    assert [(each.rehearsed, each.captured, each.replayed) for each in recorders] == [(1, 1, 1)] * 3
    state = runners["products-graph", "float32"].state
    torch.testing.assert_close(state["gradient"], state["h"].T @ state["v"] - state["up"].T @ state["down"])
    times = timing.alternate(runners, 2)
    assert [each.replayed for each in recorders] == [3] * 3
    assert SWITCH not in os.environ
    found = results_of(TINY, runners, times, memory, baselines)
    for each in found:
        each |= timing.kernels(runners[each["case"], each["precision"]], "cpu")
        assert each["kernels_per_step"] >= 2
        assert 0 < each["kernel_us_per_step"] < 1e6
    by_name = {each["case"]: each for each in found}
    assert [ratio["to"] for ratio in by_name["cd1-step-graph"]["ratios"]] == ["products-graph", "cd1-step"]
    assert by_name["cd1-step"]["kernels_per_step"] > by_name["products"]["kernels_per_step"]
    assert kernel_table(found).splitlines()[0].endswith("µs of their own")


def test_without_a_gpu_there_is_none_to_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        call([*WORDS, "--device", "cuda"], monkeypatch)
    assert stop.value.code == 2
    assert "--device cuda needs an NVIDIA GPU, and torch finds none here: leave it out" in capsys.readouterr().err


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")
def test_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "bench.json"
    names = ["cd1-step-graph", "finetune-step-graph", "ais-graph"]
    call([*WORDS, "--device", "cuda", "--cases", *names, "--output", str(output)], monkeypatch)
    found = json.loads(output.read_text())
    assert found["machine"]["gpu"]
    assert len(found["results"]) == 4 * len(names)
    assert all(each["kernels_per_step"] > 1 and each["memory_mb"] > 0 for each in found["results"])


# The arithmetic


@pytest.mark.parametrize(
    ("values", "spread", "unstable"),
    [
        ([1.0, 1.0, 1.0, 1.0, 1.0], 0.0, False),
        ([0.9, 0.95, 1.0, 1.05, 1.5], 0.1, False),  # one bad repeat does not count
        ([0.9, 0.94, 1.0, 1.05, 1.1], 0.11, True),
        ([1.0, 1.0, 1.0, 1.0], 0.0, True),  # too few
        ([1.0], None, True),
    ],
)
def test_what_is_unstable(values: list[float], spread: float | None, unstable: bool) -> None:
    found = summary(values)
    assert found["spread"] == (None if spread is None else pytest.approx(spread))
    # Exactly at the limit rounding decides, so a little beneath it is asked.
    assert summary([1 + 0.999 * (value - 1) for value in values])["unstable"] is unstable
    assert (found["least"], found["median"], found["most"]) == (
        min(values),
        sorted(values)[len(values) // 2],
        max(values),
    )


def test_the_ratio_is_the_median_of_paired_ratios() -> None:
    bare, ours, other = ("products", "float32"), ("cd1-step", "bf16"), ("gone", "float32")
    # The machine is half as fast in some repeats: their ratios are those of the others.
    times = {bare: [1.0, 2.0, 1.0, 2.0, 1.0], ours: [1.2, 2.4, 1.1, 2.6, 1.2]}
    runners = {key: Runner(lambda: 0.0, 4, None) for key in times}
    found = results_of(TINY, runners, times, {bare: 3.0, ours: None}, {bare: [], ours: [bare, other]})
    assert found[0]["unstable"]
    assert (found[0]["ratios"], found[0]["memory_mb"], found[0]["steps"]) == ([], 3.0, 4)
    (ratio,) = found[1]["ratios"]
    assert ratio["values"] == pytest.approx([1.2, 1.2, 1.1, 1.3, 1.2])
    assert (ratio["to"], ratio["precision"]) == bare
    assert ratio["median"] == pytest.approx(1.2)
    assert not found[1]["unstable"]
    lines = table(found).splitlines()
    assert lines[2].split() == ["products", "float32", "1.000", "1.000…2.000", "3", "unstable"]
    wanted = "cd1-step", "bf16", "1.200", "1.100…2.600", "1.20", "1.10…1.30", "products", "(float32)"
    assert tuple(lines[3].split()) == wanted


# The script


WORDS = ["--visible", "12", "--hidden", "7", "--batch-size", "5", "--steps", "2", "--repeats", "2"]


def call(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/benchmark.py", *words])
    COMMAND.run()


def test_a_table_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.neural_network", None)
    output = tmp_path / "bench.json"
    names = ["cd1-step", "tutorial-step", "scikit-learn-epoch"]
    call([*WORDS, "--precision", "float32", "--cases", *names, "--output", str(output)], monkeypatch)
    out = capsys.readouterr().out
    found = json.loads(output.read_text())
    assert [each["case"] for each in found["results"]] == [
        "products",
        "cd1-step",
        "cd1-epoch",
        "tutorial-step",
        "pcd1-epoch",
    ]
    for each in found["results"]:
        assert each["case"] in out
        assert each["unstable"]  # two repeats are too few
        assert len(each["ms_per_step"]["values"]) == 2
        assert (each["sizes"], each["batch_size"], each["steps"]) == ([12, 7], 5, 2)
    tutorial = next(each for each in found["results"] if each["case"] == "tutorial-step")
    assert [ratio["to"] for ratio in tutorial["ratios"]] == ["products", "cd1-step"]
    assert "scikit-learn-epoch was left out:" in out
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["machine"]["versions"]["torch"] == torch.__version__
    assert found["peak_memory_mb"] > 10
    assert found["rule"] in out


def test_memory_is_that_of_the_case() -> None:
    if machine.fresh_peak() is None:
        pytest.skip("this system does not tell")
    # In a fresh process: what others have freed in this one would be taken again without a new peak.
    code = """
import torch
from dbn.benchmarks import timing
from dbn.benchmarks.cases import CASES
from dbn.benchmarks.running import Runner, Setting
held = []
def make(setting):
    def run():
        torch.ones(20, 1024, 1024 // 4)  # 20 MB, let go of
        held.append(torch.ones(10, 1024, 1024 // 4))
        return 0.0
    return Runner(run, 1, torch.nn.Identity())
CASES["big"] = CASES["products"]._replace(make=make)
print(timing.make([("big", "float32")], Setting((12, 7), batch_size=5, steps=4, network=(6, 3)))[1]["big", "float32"])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=100)
    assert 18 < float(done.stdout) < 40


def test_the_machine_is_named() -> None:
    about = machine.machine()
    assert about["processor"]
    assert "not idle" in machine.describe(about | {"load_before": 1.0})
    assert "not idle" not in machine.describe(about | {"load_before": 0.1})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--cases cd1-epoch nonsense", "--cases nonsense is not known: choose from products, "),
        ("--cases ais ais", "--cases names ais more than once"),
        ("--cases products-bf16 --precision float32", "has nothing in --precision float32: add bf16"),
        ("--repeats 0", "--repeats must be a whole number of at least 1, not 0"),
        ("--precision half", "--precision must be"),
        ("--device gpu", "--device must be"),
        ("--steps many", "--steps must be a whole number"),
        ("--output missing/bench.json", "--output missing/bench.json cannot be written"),
    ],
)
def test_bad_options_end_in_one_sentence(
    words: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        call(words.split(), monkeypatch)
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("benchmark.py: error: ")
    assert sentence in err
    assert not list(tmp_path.iterdir())


def test_a_precision_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(SystemExit):
        call([*WORDS, "--precision", "bf16"], monkeypatch)
    assert "--precision bf16 needs products in bfloat16" in capsys.readouterr().err
    call([*WORDS, "--cases", "cd1-step"], monkeypatch)
    assert "bf16 was left out: this processor has no products in bfloat16." in capsys.readouterr().out


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, benchmark; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SCRIPTS, timeout=60)
