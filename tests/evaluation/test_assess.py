"""What is reported of a stack, against exact values, and the tables that say it."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from enumeration import joint, make_rbm, make_stack, mirrored, rng
from scipy import stats
from torch import Tensor

from dbn.config.evaluation import EvaluateConfig
from dbn.errors import InputError
from dbn.evaluation import log_partitions as layer_partitions
from dbn.evaluation import measure as assessment
from dbn.evaluation.examples import EvaluationData
from dbn.evaluation.log_partitions import Estimate
from dbn.evaluation.measure import evaluate_stack
from dbn.evaluation.report import _interval, _with_error, evaluation_text
from dbn.likelihood import exact
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.gaussian import Gaussian

B, G = "bernoulli", "gaussian"


def bits(n: int, width: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, 2, (n, width), generator=rng(seed), dtype=torch.uint8)


def load_evaluation_data(n_test: int = 40, n_train: int = 60) -> EvaluationData:
    return EvaluationData({"test": bits(n_test), "train": bits(n_train, seed=1)}, Scaling(1.0), ("The rows.",))


def config(**options: Any) -> EvaluateConfig:
    annealing = {} if options.get("exact") else {"ais": 200, "chains": 50}
    return EvaluateConfig(**{"run": Path("any"), **annealing, **options})


@torch.no_grad()
def log_z(rbm: RBM) -> float:
    return float(joint(rbm)[2].flatten().logsumexp(0))


def single() -> DBN:
    return make_stack((B, B)).float()


def exact_values(stack: DBN, rows: Tensor) -> Tensor:
    rbm = copy.deepcopy(stack.layers[0]).double()
    return (-rbm.free_energy(rows.double()) - log_z(rbm)).detach()


def test_an_exact_log_z_gives_the_exact_likelihood() -> None:
    stack, data = single(), load_evaluation_data()
    found = evaluate_stack(stack, data, config(exact=True))
    assert found["log_z"] == pytest.approx(log_z(copy.deepcopy(stack.layers[0]).double()), abs=1e-6)
    for part, rows in data.parts.items():
        values = exact_values(stack, rows)
        [figure] = found["parts"][part]["layers"]
        assert figure["mean"] == pytest.approx(values.mean().item(), abs=1e-5)
        assert figure["standard_error"] == pytest.approx(stats.sem(values.numpy()), abs=1e-5)
        assert figure["interval"] == [figure["mean"], figure["mean"]]
    assert found["test_log_likelihood"] == found["parts"]["test"]["layers"][0]["mean"]
    assert found["method"] == "exact"
    assert found["warnings"] == []


def test_an_estimated_log_z_carries_its_interval_over() -> None:
    stack = single()
    exact, found = (evaluate_stack(stack, load_evaluation_data(), config(exact=how)) for how in (True, False))
    lower, upper = found["log_z_interval"]
    assert lower < exact["log_z"] < upper
    assert lower < found["log_z"] < upper
    assert upper - lower < 0.5
    total = exact["test_log_likelihood"] + exact["log_z"]
    assert found["test_log_likelihood"] == pytest.approx(total - found["log_z"])
    assert found["test_log_likelihood_interval"] == pytest.approx([total - upper, total - lower])
    for start in ("data", "end points"):
        back = found["layers"][0]["reverse"][start]
        assert back["difference"] == pytest.approx(back["log_z"] - found["log_z"])
        assert abs(back["difference"]) < 0.5
    # The end points of AIS are close to exact samples here: the interval holds.
    lower, upper = back["log_z_interval"]
    assert lower < exact["log_z"] < upper


def test_one_seed_gives_one_result() -> None:
    first, again, other = (evaluate_stack(single(), load_evaluation_data(), config(seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first["log_z"] != other["log_z"]


def test_what_a_mirror_on_top_brings_is_nothing() -> None:
    rbm = make_rbm(B, B).float()
    stack = DBN([rbm, mirrored(rbm), rbm])
    data = load_evaluation_data()
    found = evaluate_stack(stack, data, config(exact=True))
    wanted = exact_values(stack, data.parts["test"]).mean().item()
    assert found["test_log_likelihood"] is None
    assert found["test_bound"] == pytest.approx(wanted, abs=1e-5)
    assert [figure["mean"] for figure in found["parts"]["test"]["layers"]] == pytest.approx([wanted] * 3, abs=1e-5)
    assert [figure["mean"] for figure in found["gains"]] == pytest.approx([0, 0], abs=1e-5)
    assert [figure["annealed"] for figure in found["gains"]] == [None, None]
    for gain in evaluate_stack(stack, data, config())["gains"]:
        for figure in (gain["annealed"], gain["annealed"]["forward"], gain["annealed"]["reverse"]):
            assert figure["mean"] == pytest.approx(0, abs=1e-4)
        assert gain["annealed"]["interval"] == pytest.approx([0, 0], abs=1e-3)


@pytest.mark.parametrize("kinds", [(B, B, B), (G, B, G), (B, G, B), (B, B, B, B)], ids="-".join)
def test_annealing_between_layers_tells_what_each_brought(kinds: tuple[str, ...]) -> None:
    """Chains of models this small forget where they started, so the interval holds."""
    stack = make_stack(kinds).float()
    x = torch.randn(50, 2, generator=rng(2)) if kinds[0] == G else bits(50)
    data = EvaluationData({"test": x}, Scaling(1.0), ())
    exact, found = (evaluate_stack(stack, data, config(exact=how))["gains"] for how in (True, False))
    for known, gain in zip(exact, found, strict=True):
        figure = gain["annealed"]
        assert figure["standard_error"] == pytest.approx(gain["standard_error"])
        lower, upper = figure["interval"]
        assert lower < known["mean"] < upper
        assert upper - lower < gain["interval"][1] - gain["interval"][0] + 6 * gain["standard_error"]
        for way in ("forward", "reverse"):
            rows = figure[way]["mean"] + figure[way]["log_ratio"]
            assert rows == pytest.approx(
                figure["mean"] + sum(figure[w]["log_ratio"] for w in ("forward", "reverse")) / 2
            )
            assert abs(figure[way]["start_autocorrelation"]) < 0.3
        assert figure["difference"] == figure["reverse"]["log_ratio"] - figure["forward"]["log_ratio"]


def test_layers_without_a_path_between_them_have_their_two_log_z_alone() -> None:
    data = EvaluationData({"test": torch.randn(20, 2, generator=rng(2))}, Scaling(1.0), ())
    found = evaluate_stack(make_stack((G, B, B)).float(), data, config())
    assert found["gains"][0]["annealed"] is None
    assert "annealing from the layer below" not in evaluation_text(found)
    assert "annealing from the layer below" in evaluation_text(
        evaluate_stack(make_stack((B, B, B)).float(), load_evaluation_data(), config(ais=9))
    )
    without = evaluate_stack(make_stack((B, B, B)).float(), load_evaluation_data(), config(reverse=False))
    assert without["gains"][0]["annealed"] is None


def test_chains_that_stay_at_the_data_say_so() -> None:
    lower = frozen().layers[0]
    upper = copy.deepcopy(lower)
    upper.weight.mul_(0.9)
    bits = torch.randint(0, 2, (40, 1), generator=rng(4), dtype=torch.uint8).expand(-1, 30)
    found = evaluate_stack(
        DBN([lower, upper]), EvaluationData({"test": bits.clone()}, Scaling(1.0), ()), config(ais=9, chains=20)
    )
    said = [warning for warning in found["warnings"] if warning.startswith("From layer 1 to 2: ")]
    assert any("After 3 Gibbs steps the chains still have an autocorrelation of" in warning for warning in said)
    assert found["gains"][0]["annealed"]["forward"]["start_autocorrelation"] > 0.9


def test_bounds_differ_by_what_the_layers_brought() -> None:
    found = evaluate_stack(make_stack((B, B, B, B)).float(), load_evaluation_data(), config())
    figures, gains = found["parts"]["test"]["layers"], found["gains"]
    z = [layer["log_z"] for layer in found["layers"]]
    ends = [layer["log_z_interval"] for layer in found["layers"]]
    assert len(figures) == len(gains) + 1 == len(z) == 3
    for depth, gain in enumerate(gains):
        assert gain["mean"] == pytest.approx(figures[depth + 1]["mean"] - figures[depth]["mean"])
        difference = gain["mean"] - z[depth] + z[depth + 1]
        worst, best = difference + ends[depth][0] - ends[depth + 1][1], difference + ends[depth][1] - ends[depth + 1][0]
        assert gain["interval"] == pytest.approx([worst, best])
    assert (found["log_z"], found["log_z_interval"]) == (z[-1], ends[-1])
    assert (found["test_bound"], found["test_bound_interval"]) == (figures[-1]["mean"], figures[-1]["interval"])


@pytest.mark.parametrize("kinds", [(G, B), (B, G), (G, G), (B, B, G), (G, B, B)], ids="-".join)
def test_every_pair_of_units_is_measured(kinds: tuple[str, ...]) -> None:
    stack = make_stack(kinds).float()
    x = torch.randn(50, 2, generator=rng(2)) if kinds[0] == G else bits(50)
    data = EvaluationData({"test": x}, Scaling(1.0), ())
    exact, found = (evaluate_stack(stack, data, config(exact=how)) for how in (True, False))
    for known, layer in zip(exact["layers"], found["layers"], strict=True):
        lower, upper = layer["log_z_interval"]
        assert lower < known["log_z"] < upper
    assert (found["pseudo_likelihood"] is None) == (kinds[0] == G)


def test_standardized_data_are_scored_in_their_own_units() -> None:
    """Uncoupled units of precision 1 on standardised values are normal densities of the values before."""
    shift, spread = torch.tensor([1.0, -2.0]), torch.tensor([0.1, 30.0])
    x = shift + spread * torch.randn(30, 2, generator=rng(3))
    data = EvaluationData({"test": x}, Scaling(1.0, shift, spread), ())
    found = evaluate_stack(DBN([RBM(Gaussian(2), Bernoulli(2))]), data, config(exact=True))
    wanted = stats.norm.logpdf(x.numpy(), shift.numpy(), spread.numpy()).sum(1).mean()
    assert found["test_log_likelihood"] == pytest.approx(wanted, rel=1e-5)


def test_bytes_are_scored_as_bytes() -> None:
    """The density of a byte under N(0, 1) of its 255th part."""
    x = torch.randint(0, 256, (30, 2), generator=rng(3), dtype=torch.uint8)
    stack = DBN([RBM(Gaussian(2), Bernoulli(2))])
    found, real = (
        evaluate_stack(stack, EvaluationData({"test": rows}, Scaling(255.0), ()), config(exact=True))[
            "test_log_likelihood"
        ]
        for rows in (x, x / 255)
    )
    assert found == pytest.approx(stats.norm.logpdf(x.numpy(), 0, 255).sum(1).mean(), rel=1e-6)
    assert real == pytest.approx(stats.norm.logpdf(x.numpy() / 255).sum(1).mean(), rel=1e-6)


def test_tiny_negatives_are_no_negative_zero() -> None:
    assert _with_error({"mean": -0.001, "standard_error": 0.001}) == "0.00 ± 0.00"
    assert _interval((-0.004, 0.2)) == "0.00 … 0.20"


def test_the_pseudo_likelihood_is_that_of_the_test_part() -> None:
    stack, data = single(), load_evaluation_data()
    values = pseudo_log_likelihood(stack.layers[0], data.parts["test"].float())
    found = evaluate_stack(stack, data, config())["pseudo_likelihood"]
    assert (found["rows"], found["mean"]) == (40, pytest.approx(values.mean().item()))
    assert found["standard_error"] == pytest.approx(stats.sem(values.numpy()))


def test_long_work_is_done_on_some_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_partitions, "SOME", 20)
    monkeypatch.setattr(assessment, "FLIPS", 9 * 7.5)
    found = evaluate_stack(single(), load_evaluation_data(), config())
    assert found["parts"]["train"]["rows"] == 20
    assert found["parts"]["test"]["rows"] == 40
    assert found["pseudo_likelihood"]["rows"] == 7


def frozen() -> DBN:
    """Two modes far apart, and chains that cannot cross."""
    rbm = RBM(Bernoulli(30), Bernoulli(30)).requires_grad_(False)
    rbm.weight.fill_(1.0)
    rbm.visible.bias.fill_(-15.0)
    rbm.hidden.bias.fill_(-15.0)
    return DBN([rbm])


def test_an_estimate_in_doubt_says_so() -> None:
    data = EvaluationData({"test": torch.zeros(20, 30, dtype=torch.uint8)}, Scaling(1.0), ())
    found = evaluate_stack(frozen(), data, config(ais=3, chains=20))
    text = evaluation_text(found)
    assert any("differ by" in warning and "(from data)" in warning for warning in found["warnings"])
    assert any("effective sample size" in warning for warning in found["warnings"])
    assert all(f"Warning: {warning}" in text for warning in found["warnings"])
    alone = evaluate_stack(frozen(), data, config(ais=3, chains=20, reverse=False))
    assert any("Without reverse annealing" in warning for warning in alone["warnings"])
    assert alone["layers"][0]["reverse"] == {}


def test_the_layer_of_a_warning_is_named() -> None:
    stack = DBN([make_rbm(B, B).float(), make_rbm(B, B).float()])
    stack.layers[1].load_state_dict({name: 40 * tensor for name, tensor in stack.layers[1].state_dict().items()})
    warnings = evaluate_stack(stack, load_evaluation_data(), config(ais=3, chains=20))["warnings"]
    few = [warning for warning in warnings if "size of" in warning]
    assert any(warning.startswith("Layer 2: ") for warning in few)
    # The path between the layers may find it as hard; the first layer alone does not.
    assert all(warning.startswith(("Layer 2: ", "From layer 1 to 2: ")) for warning in few)


def test_one_chain_has_no_interval_and_no_test_row_no_error() -> None:
    found = evaluate_stack(single(), load_evaluation_data(1), config(chains=1))
    assert found["log_z_interval"] == [-math.inf, math.inf]
    assert found["parts"]["test"]["layers"][0]["standard_error"] is None
    assert "-inf … inf" in evaluation_text(found)


def test_the_tables_say_what_was_found() -> None:
    found = evaluate_stack(single(), load_evaluation_data(), config())
    lines = [line.split("  ") for line in evaluation_text(found).splitlines()]
    cells = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}
    lower, upper = found["log_z_interval"]
    size = found["layers"][0]["effective_sample_size"]
    assert cells["AIS"] == [f"{found['log_z']:.2f}", f"{lower:.2f} … {upper:.2f}", f"{size:.1f}"]
    back = found["layers"][0]["reverse"]["data"]
    assert cells["reverse from data (diagnostic)"][-1] == f"{back['difference']:+.2f}"
    assert cells["reverse from data (diagnostic)"][0] == f"{back['log_z']:.2f}"
    [figure] = found["parts"]["train"]["layers"]
    worst, best = figure["interval"]
    assert cells["train log-likelihood"] == [
        "60",
        f"{figure['mean']:.2f} ± {figure['standard_error']:.2f}",
        f"{worst:.2f} … {best:.2f}",
    ]
    assert evaluation_text(found).splitlines()[:2] == [
        "Model: 3 bernoulli – 3 bernoulli units. log Z: AIS, 50 chains, 200 temperatures (quick's proportions), seed "
        "0; the model is small enough for --exact.",
        "The rows.",
    ]


@pytest.mark.parametrize(
    ("ais", "heading"),
    [
        ("published", "14,501 temperatures (published),"),
        (14_501, "14,501 temperatures (quick's proportions),"),
        ("quick", "1,001 temperatures (quick),"),
        (None, "14,501 temperatures (published),"),
    ],
)
def test_a_schedule_is_named(ais: Any, heading: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many temperatures need not lie where the published ones do."""
    monkeypatch.setattr(assessment, "log_partitions", lambda *_, **__: [Estimate(0.0, (0.0, 0.0), 1.0, {}, [])])
    found = evaluate_stack(single(), load_evaluation_data(), config(ais=ais))
    assert found["schedule"] == (ais or "published")
    assert heading in evaluation_text(found)


def test_the_tables_of_a_deep_stack_name_its_layers() -> None:
    found = evaluate_stack(make_stack((B, B, B)).float(), load_evaluation_data(), config(exact=True))
    names = [line.split("  ")[0] for line in evaluation_text(found).splitlines()]
    for name in ("layer 2, exact", "test log-likelihood of layer 1", "test lower bound of layers 1–2"):
        assert name in names
    assert "test, gain by layer 2" in names
    assert "test pseudo-log-likelihood of layer 1" in names


def test_the_tables_say_what_annealing_between_layers_found() -> None:
    found = evaluate_stack(make_stack((B, B, B)).float(), load_evaluation_data(), config())
    lines = [line.split("  ") for line in evaluation_text(found).splitlines()]
    cells = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}
    gain = found["gains"][0]["annealed"]
    lower, upper = gain["interval"]
    both = f"{gain['mean']:.2f} ± {gain['standard_error']:.2f}"
    assert cells["layer 2, both, with the rows' error"] == [both, f"{lower:.2f} … {upper:.2f}"]
    run = gain["reverse"]
    least, most = (run["mean"] + run["log_ratio"] - end for end in reversed(run["log_ratio_interval"]))
    size, left = f"{run['effective_sample_size']:.1f}", f"{run['start_autocorrelation']:.2f}"
    assert cells["layer 2, reverse (diagnostic)"] == [f"{run['mean']:.2f}", f"{least:.2f} … {most:.2f}", size, left]


def test_two_gaussian_sides_have_exact_values_at_any_size() -> None:
    rbm = RBM(Gaussian(40), Gaussian(50))
    assert exact.log_partition(rbm) == pytest.approx(45 * math.log(2 * math.pi), rel=1e-5)  # W = 0, precisions 1
    assert assessment.has_exact_values(rbm)


def test_a_model_too_large_for_exact_values_is_refused() -> None:
    stack = DBN([RBM(Bernoulli(30), Bernoulli(40))])
    data = EvaluationData({"test": bits(5, 30)}, Scaling(1.0), ())
    with pytest.raises(InputError, match="states"):
        evaluate_stack(stack, data, config(exact=True))
    assert not evaluate_stack(stack, data, config())["exact_possible"]


def test_measuring_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    evaluate_stack(make_stack((B, B, B)).float(), load_evaluation_data(), config(ais=5))
    assert torch.equal(torch.get_rng_state(), before)
