"""The rivals of regression.py, against scikit-learn on the same rows."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from dbn.config.finetuning import Finetuning
from dbn.data.cut import splits_from_arrays
from dbn.finetuning.problem import Problem
from dbn.models.scaling import Scaling
from dbn.tasks import TASKS


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "regression.py"
    spec = importlib.util.spec_from_file_location("regression_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_rival_is_the_model_with_the_least_validation_error(script: ModuleType) -> None:
    rng = np.random.default_rng(2)
    x = rng.random((90, 6)).astype(np.float32)
    y = 30 + 5 * x[:, 0] + rng.normal(size=90)
    splits = splits_from_arrays(x, y, cut_test=True, read_labels=TASKS["regress"].read)
    problem = Problem(splits, Scaling(), (3,), (), Finetuning(task="regress", init=("he_normal",), labels=40))
    found = script.rival(problem, 1, script.ridges)
    train, valid = problem.labeled(1)
    errors = {}
    for penalty in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0):
        # In the units of the data, a penalty alike: the targets are only shifted and stretched.
        model = Ridge(alpha=penalty).fit(train.tensor.numpy(), train.y.numpy()[:, 0])
        predicted = [torch.as_tensor(model.predict(part.tensor.numpy())) for part in (valid, problem.test)]
        rmse = [
            float((each - part.y[:, 0]).square().mean().sqrt())
            for each, part in zip(predicted, (valid, problem.test), strict=True)
        ]
        errors[penalty] = rmse
    assert found.error == pytest.approx(min(errors.values())[1], rel=1e-4)
