"""Confusion matrices as images."""

import pytest
import torch

from dbn.plotting.confusion import FULL, MARGIN, PAPER, confusion_image


def colors(image: torch.Tensor) -> set[tuple[int, ...]]:
    codes = (image.long() * torch.tensor([1 << 16, 1 << 8, 1])[:, None, None]).sum(0).unique().tolist()
    return {(code >> 16, code >> 8 & 255, code & 255) for code in codes}


def test_cells_are_shaded_by_their_share_of_the_row() -> None:
    image = confusion_image({"": [[4, 0], [0, 0]]}, ["a", "b"])
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    full = (image == torch.tensor(FULL, dtype=torch.uint8)[:, None, None]).all(0)
    rows, columns = (full.any(side).nonzero().flatten() for side in (1, 0))
    assert 40 <= len(rows) <= 44  # one cell alone, the upper left one
    assert 40 <= len(columns) <= 44
    assert (rows.max() < image.shape[1] / 2 + 20, columns.max() < image.shape[2] / 2) == (True, True)
    half = confusion_image({"": [[2, 2], [0, 0]]}, ["a", "b"])
    assert tuple(round((a + b) / 2) for a, b in zip(PAPER, FULL, strict=True)) in colors(half)
    assert FULL not in colors(half)


def test_panels_of_several_arms_stand_side_by_side() -> None:
    matrix = [[3, 1, 0], [0, 4, 0], [1, 0, 3]]
    one, four = (confusion_image({f"arm {n}": matrix for n in range(k)}, list("abc")) for k in (1, 4))
    assert four.shape[1] > 1.5 * one.shape[1]
    again = confusion_image({f"arm {n}": matrix for n in range(4)}, list("abc"))
    assert torch.equal(four, again)


@pytest.mark.parametrize("classes", [2, 15, 16, 40, 41, 300, 1000])
def test_any_number_of_classes_has_room(classes: int) -> None:
    image = confusion_image({"dbn": torch.eye(classes, dtype=torch.int64).tolist()}, [str(n) for n in range(classes)])
    assert max(image.shape) < 1200
    assert FULL in colors(image)


def test_names_of_any_length_and_alphabet() -> None:
    names = ["a" * 300, "日本", "naïve, \n quoted", ""]
    image = confusion_image({"lsuv(bias=0.1):tanh" * 9: [[1] * 4] * 4}, names)
    assert max(image.shape) < 700
    assert min(image.shape[1:]) > 4 * 44 + MARGIN
