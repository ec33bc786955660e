"""Tables as they should not be, and damaged ones: a right reading, or one sentence, status 2 and nothing written."""

import gzip
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from mutations import mutate
from PIL import Image
from safetensors.torch import save_file

from dbn.cli.program import main
from dbn.data.readers import read_table
from dbn.errors import InputError

NUMBERS = "0.5,0.25\n" * 20
NASTY: dict[str, tuple[str, str | bytes, str]] = {
    "nothing": ("a.csv", "", "is empty"),
    "one empty line": ("a.csv", "\n", "begins with an empty line"),
    "spaces": ("a.csv", "   \n", "no name in the header"),
    "a header alone": ("a.csv", "a,b\n", "no row below"),
    "no header": ("a.csv", NUMBERS, "header line"),
    "two headers": ("a.csv", "a,b\na,b\n" + NUMBERS, "line 2, column 'a': 'a' is not a number"),
    "a title above": ("a.csv", "My table\na,b\n" + NUMBERS, "line 2 has 2 cells but the header line has 1"),
    "a comment": ("a.csv", "a,b\n# note\n" + NUMBERS, "line 2 has 1 cells"),
    "a total below": ("a.csv", "a,b\n" + NUMBERS + "sum,5\n", "line 22, column 'a': 'sum' is not a number"),
    "row numbers": ("a.csv", ",a,b\n" + "".join(f"{n},1,0\n" for n in range(20)), "column 1 has no name"),
    "trailing commas": ("a.csv", "a,b,\n" + "1,0,\n" * 20, "column 3 has no name"),
    "columns of one name": ("a.csv", "a,a\n" + NUMBERS, "two columns"),
    "mixed types": ("a.csv", "a,b\n" + NUMBERS + "0.5,red\n", "line 22, column 'b': 'red' is not a number"),
    "dates": ("a.csv", "a,b\n2020-01-01,1\n", "'2020-01-01' is not a number"),
    "percents": ("a.csv", "a,b\n50%,1\n", "'50%' is not a number"),
    "NA": ("a.csv", "a,b\nNA,1\n", "'NA' is not a number: .*; where it marks a missing value, leave the cell empty"),
    "NaN": ("a.csv", "a,b\nNaN,1\n" + NUMBERS, "line 2, column 'a' is nan"),
    "an open quote": ("a.csv", 'a,b\n"0.5,1\n' + NUMBERS, "cells but the header|not a number|field larger"),
    "thousands": ("a.csv", 'a,b\n"1,000",1\n' + NUMBERS, "one decimal mark|may be"),
    "UTF-16 without a mark": ("a.csv", ("a,b\n" + NUMBERS).encode("utf-16-le"), "not UTF-8"),
    "half of UTF-16": ("a.csv", ("a,b\n" + NUMBERS).encode("utf-16")[:-1], "not UTF-8"),
    "Latin-1": ("a.csv", ("ä,b\n" + NUMBERS).encode("latin-1"), "not UTF-8"),
    "zero bytes": ("a.csv", b"a,b\n" + b"\0" * 100, "cells but the header"),
    "a picture": ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not UTF-8"),
    "an archive": ("a.csv", b"PK\3\4" + bytes(100), "not UTF-8|header"),
    "HTML": ("a.csv", "<!DOCTYPE html>\n<html><body>404, not found</body></html>\n", "line 2"),
    "half a gzip": ("a.csv.gz", gzip.compress(("a,b\n" + NUMBERS).encode())[:-9], "not a whole gzip"),
    "text as gzip": ("a.tsv.gz", "a\tb\n", "no row below"),
    "many columns": ("a.csv", ",".join(f"c{n}" for n in range(100_000)) + "\n1\n", "line 2 has 1 cells"),
    "an Excel file": ("a.xlsx", b"PK\3\4", "must end in"),
    "text as Parquet": ("a.parquet", "a,b\n" + NUMBERS, "damaged or no .parquet"),
    "nothing as Arrow": ("a.arrow", "", "damaged or no .arrow"),
    "text as tensors": ("a.pt", "a,b\n" + NUMBERS, "never unpickled"),
    "nothing as tensors": ("a.safetensors", "", "damaged"),
    "text as arrays": ("a.npz", "a,b\n" + NUMBERS, "damaged"),
    "a text in a folder": ("pictures/cat/a.txt", "a", "classes cat"),
}
RIGHT: dict[str, str | bytes] = {
    "a mark of UTF-8": b"\xef\xbb\xbfa,b\n" + NUMBERS.encode(),
    "UTF-16": ("a,b\n" + NUMBERS).encode("utf-16"),
    "returns": ("a,b\n" + NUMBERS).replace("\n", "\r\n"),
    "quotes": ('"a","b"\n' + NUMBERS).replace("0.5", '"0.5"'),
    "a quoted line end": '"a\nb",c\n' + NUMBERS,
    "spaces": ("a,b\n" + NUMBERS).replace(",", " , "),
    "empty lines below": "a,b\n" + NUMBERS + "\n\n",
    "decimal commas": ("a,b\n" + NUMBERS).replace(",", ";").replace(".", ","),
    "truth": ("a,b\n" + NUMBERS).replace("0.5", "TRUE"),
}


@pytest.mark.parametrize("name", NASTY)
def test_one_sentence_status_2_and_no_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file, content, words = NASTY[name]
    if file.endswith((".parquet", ".arrow")):
        pytest.importorskip("pyarrow")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    dataset = file.partition("/")[0]
    options = ["--hidden", "3", "--epochs", "1", "--run", "run"]
    monkeypatch.setattr(sys, "argv", ["torch-dbn", "pretrain", "--dataset", dataset, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.count("\n") == 1
    with pytest.raises(InputError, match=words):
        raise InputError(error)
    assert [each.name for each in tmp_path.iterdir()] == [dataset]


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_reading(name: str, tmp_path: Path) -> None:
    content, path = RIGHT[name], tmp_path / "a.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert read_table(path).train.x.tolist() == [[1.0 if name == "truth" else 0.5, 0.25]] * 20


X, Y = np.random.default_rng(0).random((20, 4)).astype(np.float32), np.arange(20) % 2
TENSORS = {"x": torch.from_numpy(X), "y": torch.from_numpy(Y)}
WRITTEN: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda path: path.write_text(("a,b\n" + NUMBERS).replace(",", ";").replace(".", ",")),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(("a,b\n" + NUMBERS).encode())),
    "a.parquet": lambda path: arrow().to_parquet(path),
    "a.feather": lambda path: arrow().to_feather(path),
    "plain.feather": lambda path: arrow().to_feather(path, compression="uncompressed"),
    "a.pt": lambda path: torch.save(TENSORS, path),
    "a.safetensors": lambda path: save_file(TENSORS, path),
    "sparse.npz": lambda path: scipy.sparse.save_npz(path, scipy.sparse.csr_array(X * (X > 0.5))),
    "pictures/a.png": lambda path: Image.fromarray(np.uint8(X * 255)).save(path),
}


def arrow() -> Any:
    pytest.importorskip("pyarrow")
    return pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", WRITTEN)
def test_damage_is_one_sentence_or_a_table(name: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    WRITTEN[name](path)
    sound = path.read_bytes()
    place = path if path.parent == tmp_path else path.parent
    read_table(place)
    sentences = []
    for number in range(count):
        path.write_bytes(mutate(sound, random.Random(f"{name} {number}")))
        try:
            read_table(place)
        except InputError as error:
            sentences.append(str(error))
    assert sentences
    assert not [sentence for sentence in sentences if "\n" in sentence]
