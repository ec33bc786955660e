"""What scikit-learn's own tests ask of BernoulliRBM, asked of RBMTransformer."""

import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM

from dbn.errors import InputError
from dbn.likelihood import pseudo_log_likelihood
from dbn.rng import stream
from dbn.sklearn import RBMTransformer
from dbn.sklearn.transformers import moved

DIGITS = load_digits().data / 16
SPARSE = (sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.csc_array, sparse.lil_array)


def small(**options) -> RBMTransformer:
    return RBMTransformer(**{"n_components": 16, "batch_size": 5, "n_iter": 2, "random_state": 42} | options)


def test_the_score_of_digits_after_seven_epochs_is_better_and_the_rows_are_left_as_they_are() -> None:
    x = DIGITS.copy()
    rbm = RBMTransformer(64, n_iter=7, batch_size=50, random_state=9).fit(x)
    assert rbm.score_samples(x[:300]).mean() > -21  # that of BernoulliRBM is −21, its sampling noise included
    np.testing.assert_array_equal(x, DIGITS)


def test_the_score_after_small_updates_one_at_a_time_is_better() -> None:
    x = DIGITS.copy()
    rbm = RBMTransformer(64, random_state=9)
    for batch in 2 * np.array_split(x, 90):
        assert rbm.partial_fit(batch) is rbm
    assert rbm.score_samples(x[:300]).mean() > -21
    np.testing.assert_array_equal(x, DIGITS)


def test_features_are_the_means_of_the_hidden_units() -> None:
    rbm = small().fit(DIGITS[:100])
    expected = 1 / (1 + np.exp(-(DIGITS @ rbm.components_.T + rbm.intercept_hidden_)))
    np.testing.assert_allclose(rbm.transform(DIGITS), expected, rtol=1e-6)


@pytest.mark.parametrize("container", SPARSE)
def test_sparse_rows_give_what_dense_ones_give(container) -> None:
    x = DIGITS[:40]
    dense = small().fit(x)
    thin = small().fit(container(x))
    np.testing.assert_array_equal(thin.components_, dense.components_)
    for method in ("transform", "score_samples", "free_energy"):
        np.testing.assert_array_equal(getattr(thin, method)(container(x)), getattr(dense, method)(x))
    np.testing.assert_array_equal(thin.gibbs(container(x)), dense.gibbs(x))
    assert small().fit(container(x[:4])).components_.shape == (16, 64)
    one, other = small().partial_fit(container(x)), small().partial_fit(x)
    np.testing.assert_array_equal(one.components_, other.components_)


def test_hidden_states_are_one_as_often_as_their_means_say() -> None:
    rbm = small(n_components=2).fit(DIGITS[:100])
    mean = rbm.transform(DIGITS[:1])
    row = torch.tensor(DIGITS[:1], dtype=torch.float32).expand(4000, -1)
    drawn = rbm.rbm_.sample_hidden(row, stream(0, "test")).mean(0).numpy()
    np.testing.assert_allclose(drawn, mean[0], atol=5 * 0.5 / 4000**0.5)


def test_a_gibbs_step_gives_back_two_rows_that_are_learned() -> None:
    x = np.array([[0.0] * 6, [1.0] * 6])
    rbm = RBMTransformer(4, batch_size=2, n_iter=400, learning_rate=0.3, options={"weight_decay": 0}, random_state=0)
    rbm.fit(x)
    assert np.mean([rbm.gibbs(x) == x for _ in range(20)]) > 0.9


def test_gibbs_steps_are_states_and_differ_from_call_to_call() -> None:
    rbm = small(n_components=42, batch_size=40).fit(DIGITS)
    first, second = rbm.gibbs(DIGITS), rbm.gibbs(DIGITS)
    assert {*np.unique(first)} == {0, 1}
    assert (first != second).any(axis=1).all()
    again = small(n_components=42, batch_size=40).fit(DIGITS)
    np.testing.assert_array_equal(again.gibbs(DIGITS), first)


def test_the_score_is_the_mean_of_what_scikit_learn_estimates_by_one_flip() -> None:
    x = DIGITS[:20]
    rbm = small(n_components=7).fit(x)
    theirs = BernoulliRBM(7)
    theirs.components_, theirs.intercept_hidden_ = rbm.components_.astype(float), rbm.intercept_hidden_.astype(float)
    theirs.intercept_visible_ = rbm.intercept_visible_.astype(float)
    total = np.zeros(len(x))
    for place in range(64):
        other = x.copy()
        other[:, place] = 1 - other[:, place]
        total -= np.logaddexp(0, theirs._free_energy(x) - theirs._free_energy(other))
    np.testing.assert_allclose(rbm.score_samples(x), total, rtol=1e-6)
    np.testing.assert_allclose(rbm.free_energy(x), theirs._free_energy(x), rtol=1e-6)
    states = (x > 0.5).astype(float)
    exact = pseudo_log_likelihood(rbm.rbm_, torch.tensor(states, dtype=torch.float32))
    np.testing.assert_allclose(rbm.score_samples(states), exact, rtol=1e-5)


def test_the_score_is_not_cut_off_and_stays_finite() -> None:
    x = np.vstack([np.zeros(300), np.ones(300)])
    rbm = small(batch_size=2, n_iter=1, random_state=np.random.RandomState(42)).fit(x)
    scores = rbm.score_samples(x)
    assert (scores < -100).all()
    with torch.no_grad():
        rbm.rbm_.weight.mul_(1e6)
    assert np.isfinite(rbm.score_samples(np.linspace(0, 1, 300)[None])).all()


def test_rows_of_another_scale_are_refused() -> None:
    rbm = small().fit(DIGITS[:40])
    for method in ("transform", "score_samples", "gibbs", "partial_fit"):
        with pytest.raises(ValueError, match=r"X has values from 0 to 16, .* MinMaxScaler\(clip=True\)$"):
            getattr(rbm, method)(16 * DIGITS[:20])


def test_verbose_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    small(verbose=True).fit(sparse.csc_array([[0.0], [1.0]]))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "2/2" in shown.err
    small().fit([[0.0], [1.0]])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("given", "found"), [(np.float32, np.float32), (np.float64, np.float64), (int, np.float64)])
def test_features_have_the_type_of_the_rows(given, found) -> None:
    assert small().fit_transform(DIGITS[:100].astype(given)).dtype == found


def test_both_float_types_learn_the_same() -> None:
    one, other = small(), small()
    features = one.fit_transform(DIGITS[:100]), other.fit_transform(DIGITS[:100].astype(np.float32))
    np.testing.assert_allclose(*features, rtol=1e-5)
    np.testing.assert_array_equal(one.components_, other.components_)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_features_have_names(method: str) -> None:
    rbm = getattr(small(n_components=3), method)(DIGITS[:20])
    assert list(rbm.get_feature_names_out()) == ["rbmtransformer0", "rbmtransformer1", "rbmtransformer2"]


@pytest.mark.parametrize("options", [{}, {"estimator": "pcd"}, {"options": {"optimizer": "adam", "average": 0.9}}])
def test_updates_go_on_from_a_pickled_estimator(options) -> None:
    def updated(rbm: RBMTransformer, rows) -> RBMTransformer:
        for part in np.split(rows, 4):
            rbm.partial_fit(part)
        return rbm

    straight = updated(small(**options), DIGITS[:80])
    half = small(**options)
    for number, part in enumerate(np.split(DIGITS[:80], 4)):
        half = pickle.loads(pickle.dumps(half)) if number == 2 else half
        half.partial_fit(part)
    np.testing.assert_array_equal(half.components_, straight.components_)
    once = small(**options).partial_fit(DIGITS[:20])
    assert not np.array_equal(once.components_, straight.components_)


def test_updates_go_on_from_a_fit() -> None:
    rbm = small().fit(DIGITS[:40])
    before = rbm.components_.copy()
    rbm.partial_fit(DIGITS[:40])
    moved = np.abs(rbm.components_ - before).max()
    assert 0 < moved < 0.1
    again = clone(rbm).fit(DIGITS[:40])
    np.testing.assert_array_equal(again.components_, before)


def test_updates_keep_the_units_and_the_scale_of_the_first_rows() -> None:
    rows = np.random.default_rng(0).normal(5, 2, (60, 3))
    rbm = small().partial_fit(rows)
    shift = rbm.stack_.scaling.shift
    rbm.partial_fit(np.clip(rows[:20], 4, 5))
    assert rbm.rbm_.visible.kind == "gaussian"
    assert rbm.stack_.scaling.shift is shift or torch.equal(rbm.stack_.scaling.shift, shift)
    with pytest.raises(InputError, match="needs a number as learning_rate"):
        small(learning_rate="0.1:0").partial_fit(DIGITS)


def test_updates_take_rows_that_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = small().partial_fit(DIGITS[:40]).partial_fit(DIGITS[:40])
    monkeypatch.setattr("dbn.data.rows.RESIDENT", 1)
    large = small().partial_fit(DIGITS[:40]).partial_fit(DIGITS[:40])
    assert np.array_equal(large.components_, plain.components_)


def test_what_updates_keep_is_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine that unpickles the estimator may lack the device."""
    went = []
    monkeypatch.setattr(
        "dbn.sklearn.transformers.moved", lambda state, device: went.append(str(device)) or moved(state, device)
    )
    rbm = small(device="cpu").partial_fit(DIGITS[:40])
    assert set(went) == {"cpu"}
    assert rbm._trained is not None
    assert moved(rbm._trained, "meta")["rbms"][0]["weight"].device.type == "meta"


@pytest.mark.parametrize("change", [{"n_components": 5}, {"estimator": "pcd"}, {"options": {"optimizer": "adam"}}])
def test_updates_refuse_parameters_of_another_form(change) -> None:
    transformer = small().partial_fit(DIGITS[:40])
    before = transformer.components_.copy()
    with pytest.raises(InputError, match="partial_fit cannot go on with the parameters as they are now"):
        transformer.set_params(**change).partial_fit(DIGITS[:40])
    assert np.array_equal(transformer.components_, before)
