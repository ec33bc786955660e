"""Labels by value: one-hot, missing, marked; what is no class stops fine-tuning alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dbn.data.cut import splits_from_arrays
from dbn.data.datasets import load_splits
from dbn.data.readers import read_table
from dbn.data.splits import unsplit
from dbn.errors import InputError

X = np.arange(60, dtype=np.float32).reshape(20, 3)
HALVES = np.arange(20) % 2
NONE = np.where(np.arange(20) < 8, np.arange(20) % 2, -1)


def marked_with(value, kind=float):
    """Eight labels, 0 and 1, and twelve rows of another value."""
    y = NONE.astype(kind)
    y[8:] = value
    return y


@pytest.mark.parametrize(
    ("y", "classes", "codes"),
    [
        ([[3], [5], [3], [5]], ("3", "5"), [0, 1, 0, 1]),
        (np.eye(3)[[2, 0, 1, 2]], ("0", "1", "2"), [2, 0, 1, 2]),
        (np.eye(3, dtype=bool)[[2, 0, 0, 2]], ("0", "2"), [1, 0, 0, 1]),
        ([3.0, np.nan, 5.0, np.nan], ("3", "5"), [0, -1, 1, -1]),
        (np.array([3, None, 5.0, float("nan")], object), ("3", "5"), [0, -1, 1, -1]),
        (np.array(["b", None, "a", " "], object), ("a", "b"), [1, -1, 0, -1]),
        (["b", "", "a", "b"], ("a", "b"), [1, -1, 0, 1]),
        (np.array([True, None, False, True], object), ("False", "True"), [1, -1, 0, 1]),
        (np.array([2, 7, 2, 7], np.uint64), ("2", "7"), [0, 1, 0, 1]),
        ([np.nan] * 4, (), [-1] * 4),
    ],
)
def test_labels_as_they_come(y, classes, codes):
    splits = unsplit("x", X[:4], np.asarray(y))
    assert (splits.classes, splits.train.y.tolist(), splits.label_error) == (classes, codes, "")


REFUSED = [
    (HALVES[1:], r"y has shape \(19,\).*\(20,\)"),
    (np.eye(4)[HALVES] * 2, r"y has 4 columns, which are not one-hot"),
    (np.ones((20, 2), int), r"y has 2 columns, which are not one-hot"),
    (np.zeros((20, 2, 2)), r"y has shape \(20, 2, 2\)"),
    (HALVES / 2, r"y holds 0.5 in row 1 .* real-valued targets"),
    (HALVES * 2.0**53, r"y holds 9007199254740992.0 in row 1 .* real-valued targets"),
    (np.where(HALVES, np.inf, 0), r"y holds inf in row 1 "),
    (HALVES.astype("M8[s]"), r"y holds datetime64\[s\], but labels"),
    (np.array(["a", 1] * 10, object), r"y holds int and str, but labels"),
    (HALVES * 0, r"all labels are '0', but at least two classes"),
    (marked_with(np.nan) * 0, r"all labels are '0'"),
    (HALVES * np.nan, r"no row has a label"),
    (np.arange(20), r"every class has too few rows for a test split"),
]


@pytest.mark.parametrize(("y", "words"), REFUSED)
def test_labels_that_are_no_classes_are_left_unused(y, words):
    splits, alone = splits_from_arrays(X, y, cut_test=True), splits_from_arrays(X, cut_test=True)
    assert splits.fingerprint == alone.fingerprint  # every row is left to pre-training
    assert splits.describe().startswith(alone.describe())
    assert " Labels are left unused: " in splits.describe()
    with pytest.raises(InputError, match=f"^x: {words}"):
        splits.check_labels()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": HALVES, "x_test": X}, "y is there but y_test is not"),
        ({"y_test": HALVES, "x_test": X}, "y_test is there but y is not"),
        ({"y": HALVES, "y_test": HALVES}, "y_test is there but x_test is not"),
        ({"y": HALVES, "x_test": X, "y_test": HALVES + 1}, "y_test holds '2', which is none of the classes of y"),
        ({"y": HALVES, "x_test": X, "y_test": np.array(["a", "b"] * 10)}, "y numbers but y_test strings .* same type"),
        ({"y": np.arange(20), "x_test": X, "y_test": np.arange(20)}, "too few rows for a validation split"),
    ],
)
def test_labels_of_test_rows_that_do_not_fit(arrays, words):
    splits = splits_from_arrays(X, **arrays)
    assert splits.train.y is None
    with pytest.raises(InputError, match=words):
        splits.check_labels()


def test_without_labels_there_is_no_test_set():
    splits = splits_from_arrays(X, cut_test=True)
    assert (len(splits.train), len(splits.valid), splits.test) == (18, 2, None)
    old = splits_from_arrays(X, cut_test=True, split="balanced")
    assert (len(old.train), len(old.valid), len(old.test)) == (15, 1, 4)
    with pytest.raises(InputError, match="x has no labels, and fine-tuning needs them"):
        splits.check_labels()


def few_labels(unlabeled=980):
    """20 rows of two classes among many without a label."""
    y = np.full(20 + unlabeled, -1)
    y[::50][:20] = np.arange(20) % 2
    return np.random.default_rng(0).random((len(y), 3)).astype(np.float32), y


def test_rows_without_a_label_serve_pretraining_alone():
    x, y = few_labels()
    splits = splits_from_arrays(x, np.where(y < 0, np.nan, y), cut_test=True)
    counts = {name: torch.bincount(getattr(splits, name).y + 1, minlength=3).tolist() for name in ("valid", "test")}
    # A fifth of the labeled rows are tested; of each class of 8, one is for validation, and a tenth of the others.
    assert counts == {"valid": [98, 1, 1], "test": [0, 2, 2]}
    assert (len(splits.train), len(splits.train.labeled()), len(splits.valid.labeled())) == (896, 14, 2)
    assert splits.train.labeled().y.tolist() == [code for code in splits.train.y.tolist() if code >= 0]
    assert splits.describe().endswith(" 14 training and 2 validation examples have labels, the others have none.")
    splits.check_labels()


def test_marks():
    x, y = few_labels()
    known = splits_from_arrays(x, np.where(y < 0, np.nan, y), cut_test=True)
    for marked, unlabeled in [(np.where(y < 0, 9, y), 9), (np.where(y < 0, "?", y.astype(str)), "?"), (y, -1)]:
        assert splits_from_arrays(x, marked, cut_test=True, unlabeled=unlabeled).fingerprint == known.fingerprint
    assert splits_from_arrays(x, y, cut_test=True).fingerprint == known.fingerprint  # scikit-learn's convention
    with pytest.raises(InputError, match="x: no label is '7', which --unlabeled names, only '-1', '0', '1'"):
        splits_from_arrays(x, y, unlabeled=7)
    for mark in (-1.0, "-1.0", np.float32(-1)):
        assert splits_from_arrays(x, y.astype(float), cut_test=True, unlabeled=mark).fingerprint == known.fingerprint


def test_a_mark_makes_words_of_numbers_that_test_rows_have_as_numbers():
    y = HALVES.astype(str).astype(object)
    y[::4] = "?"
    splits = splits_from_arrays(X, y, X, HALVES, unlabeled="?")
    splits.check_labels()
    assert (splits.classes, splits.test.y.tolist()) == (("0", "1"), HALVES.tolist())
    assert "y strings but y_test numbers" in splits_from_arrays(X, y, X, HALVES + 1, unlabeled="?").label_error


@pytest.mark.parametrize("classes", [[-1, 1], [-1, 0], [-2, -1, 0], ["-1", "a", "b"]])
def test_minus_one_may_be_a_class(classes):
    splits = splits_from_arrays(np.repeat(X, 3, 0), np.array(classes * 30)[:60])
    assert splits.classes == tuple(map(str, sorted(classes)))
    splits.check_labels()


def test_minus_one_in_a_file_is_asked_about(tmp_path):
    x, y = few_labels()
    path = str(tmp_path / "data.npz")
    np.savez(path, x=x, y=y)
    asked, told = load_splits(path), load_splits(path, unlabeled="-1")
    assert asked.fingerprint == told.fingerprint  # which row is where does not depend on the answer
    told.check_labels()
    with pytest.raises(InputError, match=r"data.npz: y holds -1 in 980 rows, beside '0', '1': .* say --unlabeled -1"):
        asked.check_labels()


def test_named_sets_and_earlier_cuts_are_balanced(tmp_path):
    assert load_splits("mnist-10k").balanced
    assert not load_splits("mnist-10k", split="proportional").balanced
    path = str(tmp_path / "data.npz")
    np.savez(path, x=X, y=HALVES)
    assert [load_splits(path, split=split).balanced for split in (None, "balanced")] == [False, True]


def test_no_class_loses_half_of_its_rows_and_the_bound_holds_for_all_rows(monkeypatch):
    y = np.repeat([0, 1], [40, 4])  # one of the 4 is tested, and two would be half
    splits = splits_from_arrays(np.eye(44, dtype=np.float32), y, cut_test=True)
    counts = [torch.bincount(part.y, minlength=2).tolist() for part in (splits.train, splits.valid, splits.test)]
    assert counts == [[29, 3], [3, 0], [8, 1]]
    monkeypatch.setattr("dbn.data.cut.MOST_VALIDATION", 10)
    y = np.where(np.arange(300) < 60, np.arange(300) % 2, np.nan)
    valid = splits_from_arrays(np.eye(300, dtype=np.float32), y).valid
    assert (valid.n_labeled, len(valid)) == (6, 10)


def test_a_mark_that_no_row_has_is_refused_only_where_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,kind\n1,0\n2,1\n3,0\n")
    with pytest.raises(InputError, match="which --unlabeled names"):
        read_table(file, "kind", unlabeled="-1")
    assert read_table(file, "kind", unlabeled="-1", needs_mark=False).classes == ("0", "1")


def test_a_label_that_is_no_class_is_named_by_its_column(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,price\n1,0.5\n2,1.5\n")
    assert read_table(file, "price").label_error.startswith("the column 'price' holds 0.5 in row 0")
