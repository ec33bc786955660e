"""scikit-learn's own checks of estimators, and what users do with them there."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from dbn.config.defaults import hidden_layers
from dbn.config.pretraining import Pretraining
from dbn.data.splits import unsplit
from dbn.errors import InputError
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import pretrain_stack
from dbn.sklearn import DBNClassifier, DBNRegressor, DBNTransformer, RBMTransformer

TINY = {"hidden_layer_sizes": 8, "n_iter": 1, "batch_size": 50, "random_state": 0}
FEW = {"batch_size": 50, "optimizer": "adam"}

ESTIMATORS = [
    RBMTransformer(n_components=5, n_iter=2, random_state=0),
    DBNTransformer(**TINY | {"hidden_layer_sizes": (5, 3)}),
    DBNClassifier(**TINY, max_iter=12, learning_rate_init=0.1, finetuning=FEW),
    DBNRegressor(**TINY, max_iter=12, learning_rate_init=0.1, finetuning=FEW),
]


@parametrize_with_checks(ESTIMATORS)
def test_check(estimator, check) -> None:
    check(estimator)


X = load_digits().data[:300] / 16
Y = load_digits().target[:300]
CLASSIFIER = ESTIMATORS[2]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_in_a_pipeline_finds_the_same_by_any_number_of_processes(jobs: int) -> None:
    pipeline = Pipeline([("rbm", RBMTransformer(5, n_iter=1, random_state=0)), ("last", RidgeClassifier())])
    grid = {"rbm__options": [None, {"weight_decay": 0.01}]}
    found = GridSearchCV(pipeline, grid, cv=2, n_jobs=jobs).fit(X, Y)
    expected = [cross_val_score(clone(pipeline).set_params(**each), X, Y, cv=2) for each in ParameterGrid(grid)]
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], np.mean(expected, 1))
    assert found.best_estimator_["rbm"].get_feature_names_out()[4] == "rbmtransformer4"


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda each: type(each).__name__)
def test_a_seed_gives_one_result_and_a_pickle_keeps_it(estimator) -> None:
    method = "transform" if hasattr(estimator, "transform") else "predict"
    first = clone(estimator).fit(X, Y)
    expected = getattr(first, method)(X)
    np.testing.assert_array_equal(getattr(clone(first).fit(X, Y), method)(X), expected)
    np.testing.assert_array_equal(getattr(pickle.loads(pickle.dumps(first)), method)(X), expected)
    states = [clone(estimator).set_params(random_state=np.random.RandomState(seed)).fit(X, Y) for seed in (1, 1, 2)]
    one, same, other = (each.stack_.layers[0].weight for each in states)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    fresh = [clone(estimator).set_params(random_state=None).fit(X[:20], Y[:20] % 2) for _ in range(2)]
    assert not torch.equal(*(each.stack_.layers[0].weight for each in fresh))


def test_transformers_are_what_the_library_trains() -> None:
    options = {"hidden": [5], "epochs": 2, "batch_size": 10, "seed": 3, "learning_rate": 0.1}
    seed = np.random.RandomState(0).randint(2**31 - 1)
    options["seed"] = int(seed)
    config = Pretraining(**options)
    stack = pretrain_stack(unlabeled(unsplit("X", X), config, torch.device("cpu"))._replace(valid=None), config)
    rbm = RBMTransformer(5, n_iter=2, random_state=0).fit(X)
    np.testing.assert_array_equal(rbm.components_, stack.layers[0].weight)
    np.testing.assert_allclose(rbm.transform(X), stack.up(stack.scale(X)), rtol=1e-5)
    assert rbm.set_output(transform="pandas").transform(X).columns[4] == "rbmtransformer4"


def test_defaults_of_a_stack_follow_the_rows() -> None:
    stack = DBNTransformer(n_iter=1, random_state=0).fit(X[:100]).stack_
    assert stack.sizes == [64, *hidden_layers(100)]
    own = DBNTransformer((4, 3), n_iter=1, hidden_units=("bernoulli", "gaussian"), random_state=0).fit(X)
    assert [rbm.hidden.kind for rbm in own.stack_.layers] == ["bernoulli", "gaussian"]


def test_rows_without_a_label_serve_pre_training_alone() -> None:
    some = np.where(np.arange(300) < 100, Y, -1)
    given = clone(CLASSIFIER).set_params(unlabeled=-1)
    few, all_rows = clone(given).fit(X[:100], Y[:100]), clone(given).fit(X, some)
    assert list(few.classes_) == list(all_rows.classes_) == list(range(10))
    assert not torch.equal(few.stack_.layers[0].weight, all_rows.stack_.layers[0].weight)
    assert torch.equal(clone(given).fit(X, Y).stack_.layers[0].weight, all_rows.stack_.layers[0].weight)
    with pytest.warns(UserWarning, match="say unlabeled=-1"):
        assert -1 in clone(CLASSIFIER).fit(X, some).classes_
    words = np.where(np.arange(300) < 100, np.where(Y > 4, "many", "few"), "?")
    found = clone(given).set_params(unlabeled="?").fit(X, words)
    assert set(found.predict(X)) <= {"few", "many"}
    two = clone(CLASSIFIER).fit(X, np.where(Y > 4, 1, -1))
    assert list(two.classes_) == [-1, 1]


def test_classes_keep_their_columns() -> None:
    y = np.array(["b10", "a", "c"])[Y % 3]
    found = clone(CLASSIFIER).set_params(max_iter=40).fit(X, y)
    assert list(found.classes_) == ["a", "b10", "c"]
    right = found.predict_proba(X)[np.arange(300), np.searchsorted(found.classes_, y)]
    assert right.mean() > 0.5
    np.testing.assert_allclose(np.exp(found.predict_log_proba(X)).sum(1), 1)


def test_several_targets_are_learned_in_their_units() -> None:
    y = np.stack([1000 + 50 * X[:, 20], -X[:, 30:40].sum(1)], 1)
    found = clone(ESTIMATORS[3]).set_params(max_iter=30).fit(X, y)
    assert found.predict(X).shape == (300, 2)
    assert found.score(X, y) > 0.5
    refitted = clone(found).set_params(finetuning={**FEW, "refit": True}).fit(X, y)
    assert not np.array_equal(refitted.predict(X), found.predict(X))


def test_real_values_are_standardized_and_bytes_divided() -> None:
    rows = np.random.default_rng(0).normal(50, 9, (60, 4))
    real = RBMTransformer(3, n_iter=1, random_state=0).fit(rows)
    assert real.rbm_.visible.kind == "gaussian"
    np.testing.assert_allclose(real.stack_.scaling.shift, rows.mean(0), rtol=1e-5)
    assert not hasattr(real, "score_samples")
    assert 20 < real.gibbs(rows).mean() < 80
    pixels = (255 * X).astype(np.uint8)
    images = RBMTransformer(3, n_iter=1, random_state=0).fit(pixels)
    assert images.rbm_.visible.kind == "bernoulli"
    np.testing.assert_allclose(images.transform(pixels), images.transform(pixels / 255), rtol=1e-5)
    counts = RBMTransformer(3, n_iter=1, visible="binomial(trials=16)", random_state=0).fit(16 * X)
    assert counts.score_samples(16 * X[:5]).shape == (5,)


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (RBMTransformer(0), r"^n_components must be .* of at least 1, not 0$"),
        (RBMTransformer(n_iter=0), r"^n_iter must be .* of at least 1, not 0$"),
        (RBMTransformer(learning_rate=-1.0), r"^learning_rate must be a number above 0, not -1"),
        (RBMTransformer(visible="auto"), "leave visible out"),
        (RBMTransformer(visible="gausian"), "visible must be one of bernoulli, "),
        (RBMTransformer(options={"weight_decy": 1}), "options has no entry 'weight_decy', did you mean 'weight_decay'"),
        (RBMTransformer(options={"batch_size": 1}), "a parameter of its own"),
        (RBMTransformer(options=3), "options must be a dict"),
        (DBNTransformer((4, 0)), r"^hidden_layer_sizes must be"),
        (DBNClassifier(4, n_iter=1, max_iter=0), r"^max_iter must be"),
        (DBNClassifier(4, n_iter=1, learning_rate_init=0), r"^learning_rate_init must be"),
        (
            DBNClassifier(4, n_iter=1, finetuning={"patients": 2}),
            "finetuning has no entry 'patients', did you mean 'patience'",
        ),
    ],
)
def test_what_cannot_be_used_is_named_by_its_parameter(estimator, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        estimator.fit(X[:40], Y[:40] % 2)


def test_rows_outside_the_range_of_the_units_are_refused() -> None:
    with pytest.raises(InputError, match=r"^X has values from 0 to 16, but Bernoulli units .* leave visible out$"):
        RBMTransformer(visible="bernoulli").fit(16 * X)


def test_without_scikit_learn_the_extra_is_named() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import dbn.sklearn"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (
        ended.stderr.decode()
        .strip()
        .endswith("ImportError: dbn.sklearn needs scikit-learn: pip install 'torch-dbn[sklearn]'")
    )
