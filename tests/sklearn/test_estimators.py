"""scikit-learn's own checks of estimators, and what users do with them there."""

from sklearn.utils.estimator_checks import parametrize_with_checks

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
