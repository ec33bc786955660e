"""Grids of pictures: which value stands where."""

from pathlib import Path

import numpy as np
import pytest
import torch
from enumeration import KINDS
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.naming import make_units
from dbn.plotting.images import as_images, filters, name_rows, originals_and_reconstructions, save_png, tile

SHAPE = (1, 2, 3)


def cells(picture: Tensor, height: int = 2, width: int = 3) -> Tensor:
    """The pictures of a grid, row by row, (N, C, height, width), without the frames."""
    rows = picture[:, 1:, 1:].split(height + 1, 1)
    return torch.stack([cell[:, :height, :width] for row in rows for cell in row.split(width + 1, 2)])


def test_a_grid_and_its_frames() -> None:
    images = torch.arange(24.0).reshape(4, 1, 2, 3) / 24
    picture = tile(images, columns=3)
    assert picture.shape[1:] == (2 * 3 + 1, 3 * 4 + 1)
    assert_close(cells(picture)[:4, :1], images)
    assert_close(picture[:, 0], torch.full_like(picture[:, 0], 0.5))
    assert_close(picture[:, :, 4], torch.full_like(picture[:, :, 4], 0.5))
    assert (cells(picture)[4:] == 0.5).all()  # places without a picture


def test_colors_stay_in_their_channels() -> None:
    images = torch.zeros(2, 3, 2, 3)
    images[0, 0], images[1, 2] = 1.0, 0.25
    assert torch.equal(cells(tile(images, columns=2)), images)


def test_standardizing_is_undone() -> None:
    scaling = Scaling(255.0, torch.full((6,), 0.5), torch.full((6,), 0.25))
    x = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]])
    assert as_images(x, SHAPE, scaling).tolist() == [[[[0.0, 0.25, 0.5], [0.75, 1.0, 1.0]]]]
    assert as_images(x, SHAPE, Scaling()).tolist() == [[[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]]


def rbm(weight: Tensor) -> RBM:
    made = RBM(Bernoulli(weight.shape[1]), Bernoulli(weight.shape[0]))
    with torch.no_grad():
        made.weight.copy_(weight)
    return made


def test_originals_stand_above_reconstructions() -> None:
    lower = rbm(200 * torch.eye(6))
    with torch.no_grad():
        lower.hidden.bias.fill_(-100.0)
        lower.visible.bias.fill_(-100.0)
    upper = rbm(400 * torch.eye(6).flip(0))
    with torch.no_grad():
        upper.hidden.bias.fill_(-200.0)
        upper.visible.bias.fill_(-200.0)
    x = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 0.9, 0.1, 0.0, 0.0, 1.0]])
    generator = torch.Generator().manual_seed(0)
    for stack in ([lower], [lower, upper]):
        found = cells(originals_and_reconstructions(stack, x, SHAPE, Scaling(), generator))[:, 0].reshape(4, 6)
        assert_close(found[:2], x)
        assert_close(found[2:], x.round())


def test_filters_keep_the_sign_and_fill_the_range() -> None:
    weight = torch.tensor([[0.0, 1.0, -2.0, 4.0, 0.0, -4.0], [0.5, 0.25, 0.0, 0.0, 0.0, 0.0], [0.0] * 6])
    wanted = torch.tensor([[0.5, 0.625, 0.25, 1.0, 0.5, 0.0], [1.0, 0.75, 0.5, 0.5, 0.5, 0.5], [0.5] * 6])
    found = cells(filters([rbm(weight)], SHAPE))
    assert_close(found[:3, 0].reshape(3, 6), wanted)
    assert_close(cells(filters([rbm(weight)], SHAPE, count=2))[:2, 0].reshape(2, 6), wanted[:2])


def test_filters_of_upper_layers_are_carried_down() -> None:
    lower, upper = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([[0.0, 2.0, 0.0, -1.0]])
    above = filters([rbm(lower), rbm(upper.expand(4, 4))], SHAPE)
    assert torch.equal(above, filters([rbm((upper @ lower).expand(4, 6))], SHAPE))
    assert not torch.equal(above, filters([rbm(lower)], SHAPE))


@pytest.mark.parametrize("kind", KINDS)
def test_all_unit_types_can_be_drawn(kind: str) -> None:
    made = RBM(make_units(kind, 6), Bernoulli(2))
    scaling = Scaling(1.0, torch.full((6,), 0.5), torch.ones(6))
    x = torch.zeros(3, 6)
    found = originals_and_reconstructions([made], x, SHAPE, scaling, torch.Generator().manual_seed(0))
    assert_close(cells(found)[:3, 0], torch.full((3, 2, 3), 0.5))


def test_a_png_can_be_read_again(tmp_path: Path) -> None:
    images = torch.tensor([0, 51, 102, 153, 204, 255]).reshape(1, 1, 2, 3).expand(4, 1, 2, 3) / 255
    save_png(tile(images, columns=2), tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert (image.format, image.size) == ("PNG", (2 * 4 + 1, 2 * 3 + 1))
        values = np.asarray(image.convert("L"))
    assert values[1:3, 1:4].tolist() == [[0, 51, 102], [153, 204, 255]]


@pytest.mark.parametrize("name", ["file/a.png", "file/b/a.png", "."])
def test_a_picture_that_cannot_be_written_is_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be (written|made)"):
        save_png(torch.zeros(1, 2, 2), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_of_rows_stand_at_the_left_of_the_images() -> None:
    grid = tile(torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0)), columns=3)
    named = name_rows(grid, ["data", "samples"])
    wide = named.shape[2] - grid.shape[2]
    assert torch.equal(named[:, :, wide:], grid)
    margin = named[0, :, :wide]
    half = len(margin) // 2
    dark = [float((1 - part).sum()) for part in (margin[:half], margin[half:])]
    assert 0 < dark[0] < dark[1]  # "samples" is the longer word
    assert (margin[:, :4] == 1).all()


def test_low_rows_are_enlarged_for_their_names() -> None:
    grid = torch.rand(3, 9, 10, generator=torch.Generator().manual_seed(0))
    named = name_rows(grid, ["data"])
    assert torch.equal(named[:, ::3, -30::3], grid)
