"""Rows of a file: any of them, in any order, and what is said when it cannot be read."""

import os
from pathlib import Path

import numpy as np
import pytest

from dbn.errors import InputError
from dbn.storage.row_file import RowFile

X = np.arange(600, dtype=np.int16).reshape(100, 2, 3)


def saved(folder: Path, before: bytes = b"header") -> Path:
    path = folder / "rows"
    path.write_bytes(before + X.tobytes())
    return path


@pytest.mark.parametrize(
    "rows",
    [[], [3], range(100), range(20, 60), [99, 0, 50], [5, 5, 4, 5], [10, 12, 11, 14], list(reversed(range(30)))],
)
@pytest.mark.parametrize("every", [1, 2])
def test_rows_in_any_order(tmp_path: Path, rows: list[int], every: int) -> None:
    numbers = np.array(rows, np.int64) // every
    stride = every * X[0].nbytes
    file = RowFile.open(saved(tmp_path), (100 // every, 2, 3), X.dtype, offset=6, stride=stride)
    assert np.array_equal(file.take(numbers), X[::every][numbers])
    assert file.take(numbers.astype(np.int32)).dtype == X.dtype


def test_without_preadv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    file = RowFile.open(saved(tmp_path), X.shape, X.dtype, offset=6)
    assert np.array_equal(file.take(np.array([80, 2, 40])), X[[80, 2, 40]])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = RowFile.temporary((100, 6), np.float32, tmp_path, "the rows")
    file.put(50, X[50:].reshape(50, 6))
    file.put(0, X[:50].reshape(50, 6))
    assert np.array_equal(file.take(np.arange(100)), X.reshape(100, 6))
    assert list(tmp_path.iterdir()) == []


def test_files_are_closed(tmp_path: Path) -> None:
    open_files = Path("/proc/self/fd")
    if not open_files.exists():
        pytest.skip("lists the open files of the process from /proc")
    before = len(list(open_files.iterdir()))
    for _ in range(5):
        RowFile.temporary((1, 1), np.uint8, tmp_path, "a row")
        RowFile.open(saved(tmp_path), X.shape, X.dtype, offset=6)
    assert len(list(open_files.iterdir())) == before


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none cannot be read"):
        RowFile.open(tmp_path / "none", (1,), np.uint8)
    path = saved(tmp_path)
    file = RowFile.open(path, X.shape, X.dtype, offset=6)
    os.truncate(path, 300)
    assert np.array_equal(file.take(np.array([0])), X[:1])
    with pytest.raises(InputError, match=r"rows has become shorter since it was opened"):
        file.take(np.array([99]))


def test_a_disk_without_room(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the rows take [\d.]+ GiB, which .* does not have .* TMPDIR$"):
        RowFile.temporary((1 << 52, 1), np.uint8, tmp_path, "the rows")
    with pytest.raises(InputError, match=r"none cannot be written"):
        RowFile.temporary((1, 1), np.uint8, tmp_path / "none", "the rows")
