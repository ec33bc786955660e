"""Scores of predictions, against scikit-learn's and by hand."""

import pytest
import torch
from sklearn import metrics as sklearn
from torch.testing import assert_close

from dbn.models.scaling import Scaling
from dbn.tasks.metrics import Scores, class_figures, confusion_matrix, score, scores, summed


def made(n: int = 200, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.multinomial(torch.tensor([0.6, 0.25, 0.1, 0.05]), n, replacement=True, generator=generator)
    return torch.randn(n, classes, generator=generator) + 1.5 * torch.eye(classes)[y], y


def test_scores_are_those_of_scikit_learn() -> None:
    logits, y = made()
    found, predicted = scores(logits, y), logits.argmax(1)
    assert found.error == pytest.approx(100 * sklearn.zero_one_loss(y, predicted))
    assert found.balanced_error == pytest.approx(100 * (1 - sklearn.balanced_accuracy_score(y, predicted)))
    assert found.log_loss == pytest.approx(sklearn.log_loss(y, logits.double().softmax(1)))
    assert found.confusion == sklearn.confusion_matrix(y, predicted).tolist()
    recall = 100 * sklearn.recall_score(y, predicted, average=None)
    precision = 100 * sklearn.precision_score(y, predicted, average=None)
    figures = class_figures(found.confusion)
    assert figures == {"recall": pytest.approx(recall.tolist()), "precision": pytest.approx(precision.tolist())}


def test_a_network_is_scored_on_rows_as_they_are_stored() -> None:
    network = torch.nn.Linear(2, 2, bias=False)
    x, y = torch.tensor([[255, 0], [0, 255], [51, 0]], dtype=torch.uint8), torch.tensor([0, 1, 1])
    with torch.no_grad():
        network.weight.copy_(torch.eye(2))
    found = score(network, Scaling(), x, y)
    wanted = [[1.0, 0.0], [0.0, 1.0], [0.2, 0.0]]
    assert (found.confusion, found.error) == ([[1, 0], [1, 1]], pytest.approx(100 / 3))
    assert found.log_loss == pytest.approx(-float(torch.tensor(wanted).log_softmax(1)[torch.arange(3), y].mean()))


def test_a_sure_and_wrong_classifier_has_a_finite_log_loss() -> None:
    assert scores(torch.tensor([[1000.0, 0.0]]), torch.tensor([1])).log_loss == 1000.0


def test_classes_without_examples_or_predictions_have_no_figures() -> None:
    confusion = confusion_matrix(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1]), 3)
    assert confusion == [[1, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert class_figures(confusion) == {"recall": [100.0, 0.0, None], "precision": [50.0, None, 0.0]}
    assert Scores(0.0, 0.0, confusion).balanced_error == 50.0  # of the two classes that occur
    assert summed([confusion, confusion]) == [[2, 0, 0], [2, 0, 2], [0, 0, 0]]


@pytest.mark.parametrize(
    ("confusion", "said"),
    [
        ([[0, 30, 0], [0, 30, 0], [0, 30, 0]], True),
        ([[1, 29, 0], [0, 30, 0], [1, 29, 0]], True),
        ([[20, 10, 0], [0, 30, 0], [0, 30, 0]], False),
        ([[97, 0], [3, 0]], True),  # the usual class alone
        ([[97, 0], [1, 2]], False),  # right about a rare one
        ([[0, 0], [0, 9]], False),  # one class is all there is
        ([[5, 5], [5, 5]], False),  # chance, but not one class
    ],
)
def test_one_class_for_nearly_all(confusion: list[list[int]], said: bool) -> None:
    assert Scores(0.0, 0.0, confusion).is_one_class is said


def test_summed_figures_are_those_of_all_examples() -> None:
    logits, y = made()
    halves = [scores(part, truth).confusion for part, truth in zip(logits.split(80), y.split(80), strict=True)]
    assert_close(torch.tensor(summed(halves)), torch.tensor(scores(logits, y).confusion))
