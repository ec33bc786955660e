"""Values row by row: against the methods of the models, and exact likelihoods."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import pictures, stack
from torch.testing import assert_close

import dbn
from dbn.errors import InputError
from dbn.evaluation.rows import row_values
from dbn.models import RBM, Bernoulli, Gaussian
from dbn.models.scaling import Scaling
from dbn.storage.rows import write_rows

STATES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
X = torch.from_numpy(pictures(n=30)[0]).flatten(1)


def small(sizes: tuple[int, ...] = (6, 4)) -> dbn.DBN:
    return stack(seed=2, sizes=sizes, scaling=Scaling(1.0))


def test_features_reconstructions_and_free_energies_are_those_of_the_stack() -> None:
    made = stack(scaling=Scaling(255.0))
    v = made.scale(X)
    top = row_values(made, X.numpy(), ["features", "reconstruction", "free-energy"]).values
    assert list(top) == ["features", "reconstruction", "free_energy"]
    assert_close(top["features"], made.up(v))
    assert_close(top["reconstruction"], 255 * made.down(made.up(v)))
    assert_close(top["free_energy"], made.layers[1].free_energy(made.layers[0].up(v)))
    first = row_values(made, X, ["features", "free-energy"], layer=1).values
    assert_close(first["features"], made.layers[0].up(v))
    assert_close(first["free_energy"], made.layers[0].free_energy(v))
    assert row_values(made, X[:1], "features").values["features"].shape == (1, 5)


def test_reconstructions_of_standardized_columns_are_in_the_values_of_the_data() -> None:
    rbm = RBM(Gaussian(3), Bernoulli(2))
    shift, spread = torch.tensor([5.0, -1.0, 0.0]), torch.tensor([2.0, 10.0, 0.5])
    made = dbn.DBN([rbm], Scaling(1.0, shift, spread)).requires_grad_(False)
    found = row_values(made, torch.zeros(4, 3), "reconstruction").values["reconstruction"]
    assert_close(found, shift.repeat(4, 1))  # weights and biases are 0: the means of the data


def test_reconstructions_have_their_columns_where_the_rows_have_them() -> None:
    frame = pytest.importorskip("pandas").DataFrame(STATES[:9, :3].numpy(), columns=list("abc"))
    made = stack(sizes=(3, 2), scaling=Scaling(1.0, columns=list("abc")))
    first = row_values(made, frame, ["features", "reconstruction"]).values
    other = row_values(made, frame[["c", "a", "b"]], ["features", "reconstruction"]).values
    assert_close(other["features"], first["features"])
    assert_close(other["reconstruction"], first["reconstruction"][:, [2, 0, 1]])


def test_exact_log_likelihoods_sum_to_one_over_all_states() -> None:
    found = row_values(small(), STATES, "log-likelihood")
    assert list(found.values) == ["log_likelihood"]
    assert float(found.values["log_likelihood"].exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert found.notes[-1].startswith("log Z is exact: ")


def test_densities_are_those_of_the_stored_data() -> None:
    rbm = RBM(Gaussian(2), Bernoulli(2)).requires_grad_(False)
    spread = torch.tensor([2.0, 10.0])
    made = dbn.DBN([rbm], Scaling(1.0, torch.zeros(2), spread))
    found = row_values(made, torch.zeros(1, 2), "log-likelihood").values["log_likelihood"]
    # Two normal densities of spread 2 and 10 at their means.
    assert float(found) == pytest.approx(-math.log(2 * math.pi) - math.log(20.0), abs=1e-5)


def test_ais_brackets_the_exact_value_and_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = row_values(small(), STATES, "log-likelihood").values["log_likelihood"]
    monkeypatch.setattr("dbn.evaluation.rows.has_exact_values", lambda rbm: False)
    found = row_values(small(), STATES, "log-likelihood", seed=1)
    name = "log_likelihood_ais"
    assert list(found.values) == [name, f"{name}_low", f"{name}_high"]
    assert bool((found.values[f"{name}_low"] < exact).all())
    assert bool((exact < found.values[f"{name}_high"]).all())
    assert_close(found.values[name], exact, atol=0.1, rtol=0)
    assert any(note.startswith("log Z by AIS: ") for note in found.notes)


def test_above_the_first_layer_it_is_a_lower_bound() -> None:
    made = small((6, 4, 3))
    found = row_values(made, STATES, "log-likelihood").values["log_likelihood_bound"]
    mean = dbn.evaluate(made, STATES, exact=True).test_bound
    assert float(found.mean()) == pytest.approx(mean, abs=0.05)
    assert float(found.exp().sum()) < 1.02
    alone = row_values(made, STATES, "log-likelihood", layer=1).values
    assert_close(alone["log_likelihood"], row_values(small(), STATES, "log-likelihood").values["log_likelihood"])


def test_pseudo_likelihoods() -> None:
    made = small()
    found = row_values(made, STATES, "pseudo-likelihood").values["pseudo_likelihood"]
    assert_close(found, dbn.likelihood.pseudo_log_likelihood(made.layers[0], STATES))


def test_gray_levels_have_no_likelihood_unless_it_is_said_how() -> None:
    made = stack(scaling=Scaling(255.0))
    with pytest.raises(InputError, match="no log-probability: say how to make them 0 or 1, binarize='threshold'"):
        row_values(made, X, "log-likelihood")
    found = row_values(made, X, "log-likelihood", layer=1, binarize="threshold")
    binary = (X > 127).float()
    wanted = dbn.likelihood.log_likelihood(made.layers[0], binary, dbn.likelihood.log_partition(made.layers[0]))
    assert_close(found.values["log_likelihood"], wanted.double(), atol=1e-3, rtol=0)
    assert found.notes[0] == "x: gray levels are cut at 0.5 (--binarize threshold)."


@pytest.mark.parametrize(
    ("x", "options", "said"),
    [
        (torch.rand(5, 7), {}, "x has 7 values an example, but the stack takes 6"),
        (torch.rand(5, 6) + 1, {}, "x has values from .* in .0, 1.: divide them"),
        (torch.rand(5, 6), {"layer": 2}, "^layer=2 is none of the 1 layers"),
        (torch.rand(5, 6), {"layer": 0}, "^layer=0 is none"),
        (torch.rand(5, 6).sub(0.5).log(), {}, "nan"),
    ],
)
def test_rows_that_do_not_fit_are_refused(x: torch.Tensor, options: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        row_values(small(), x, **options)


def test_files(tmp_path: Path) -> None:
    arrays = {"features": np.array([[0.25, 1.0], [2.0, 3.0]], np.float32), "free_energy": np.array([-1.5, -np.inf])}
    write_rows(tmp_path / "a.csv", arrays)
    assert (tmp_path / "a.csv").read_text() == "features_1,features_2,free_energy\n0.25,1,-1.5\n2,3,-inf\n"
    write_rows(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz") as read:
        assert {name: read[name].tolist() for name in read} == {name: a.tolist() for name, a in arrays.items()}
    write_rows(tmp_path / "a.npy", {"features": arrays["features"]})
    assert np.load(tmp_path / "a.npy").tolist() == arrays["features"].tolist()
