"""Files and folders as people keep them: each kind gives the rows that were saved, or a sentence."""

import gzip
import json
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from PIL import Image
from safetensors.torch import save_file

from dbn.data.datasets import load_splits
from dbn.data.readers import read_table
from dbn.data.splits import Splits
from dbn.errors import InputError

RNG = np.random.default_rng(0)
X = np.round(RNG.random((20, 3)).astype(np.float32), 3)
X[:, 1] = X[:, 1] > 0.5
KINDS = ["u", "v"] * 10
Y = np.arange(20) % 2


def text(delimiter: str, decimal: str = ".", quote: str = "") -> str:
    """The rows as text with a header: the second column holds True and False, the last the kinds."""
    lines = [delimiter.join(f"{quote}{name}{quote}" for name in ("a", "b", "c", "kind"))]
    for (a, b, c), kind in zip(X, KINDS, strict=True):
        cells = f"{a:.3f}".replace(".", decimal), str(bool(b)), f"{c:.3f}".replace(".", decimal), kind
        lines.append(delimiter.join(f"{quote}{cell}{quote}" for cell in cells))
    return "\n".join(lines) + "\n"


def frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"a": X[:, 0], "b": X[:, 1] > 0, "c": X[:, 2], "kind": KINDS})


def arrow_table() -> Any:
    return pytest.importorskip("pyarrow").Table.from_pandas(frame())


def write_stream(path: Path) -> None:
    table = arrow_table()
    from pyarrow import ipc

    with ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


TABLES: dict[str, Callable[[Path], Any]] = {
    "comma.csv": lambda path: path.write_text(text(",")),
    "semicolon.csv": lambda path: path.write_text(text(";")),
    "decimal-comma.csv": lambda path: path.write_text(text(";", ",")),
    "quoted-decimal-comma.csv": lambda path: path.write_text(text(",", ",", '"')),
    "tab.tsv": lambda path: path.write_text(text("\t")),
    "tab.csv": lambda path: path.write_text(text("\t")),
    "pipe.csv": lambda path: path.write_text(text("|")),
    "utf-16.csv": lambda path: path.write_text(text(","), encoding="utf-16"),
    "mac.csv": lambda path: path.write_bytes(text(",").replace("\n", "\r").encode()),
    "packed.csv.gz": lambda path: path.write_bytes(gzip.compress(text(",").encode())),
    "packed.tsv.gz": lambda path: path.write_bytes(gzip.compress(text("\t").encode())),
    "packed-unsaid.csv": lambda path: path.write_bytes(gzip.compress(text(";", ",").encode("utf-16"))),
    "a.parquet": lambda path: frame().to_parquet(path),
    "indexed.parquet": lambda path: frame().set_index(np.arange(20) / 2).to_parquet(path),
    "a.feather": lambda path: frame().to_feather(path),
    "stream.arrow": write_stream,
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_with_named_columns(name: str, tmp_path: Path) -> None:
    if name.endswith(("parquet", "feather", "arrow")):
        pytest.importorskip("pyarrow")
    TABLES[name](tmp_path / name)
    read = read_table(tmp_path / name, "kind")
    assert np.array_equal(read.train.x, X)
    assert (read.columns, read.classes) == (("a", "b", "c"), ("u", "v"))
    assert read.train.y is not None
    assert read.train.y.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("a;b\n1,234;2\n", {}, "line 2: '1,234' may be 1.234 or 1234, say --decimal comma"),
        ("a;b\n1,25;2.5\n", {}, "line 2 has '2.5' and '1,25': use one decimal mark"),
        ("a;b\n2.5;1\n0;1,25\n", {}, "line 2 has '2.5' and line 3 '1,25'"),
        ("a;b\n2.5;1\n", {"decimal": "comma"}, "line 2 has '2.5' where --decimal comma is given"),
        ("a;b\n2,5;1\n", {"decimal": "point"}, "'2,5' is not a number"),
        ("a,b;c\n1,2;3\n", {}, "may be separated by ',' or ';', say which with --delimiter"),
        ("a,b\n1,true1\n", {}, "'true1' is not a number"),
        ("a,b\n1,\0\n", {}, "is not a number"),
        ("a\0,b\n1,2\n", {}, "not UTF-8"),
        ("a,é\n1,2\n".encode("latin-1"), {}, "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), {}, "not UTF-8"),
        (b"\xff\xfea\0,\0b\0\n\0\x31", {}, "not UTF-8"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 900, mtime=0)[:30], {}, "damaged .not a whole gzip file"),
        (b"\x1f\x8bjunk", {}, "damaged .not a whole gzip file"),
        (gzip.compress(b" " * (1 << 26), mtime=0), {}, "a line of more than|begins with an empty line"),
        ("a,b\n" + "1,2\n" * 3, {"image_size": (8,)}, "--image-size is for folder of pictures"),
    ],
)
def test_text_tables_that_have_no_single_reading(
    content: str | bytes, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=words) as caught:
        read_table(path, **options)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "options", "values"),
    [
        ("a;b\n1,234;2\n", {"decimal": "comma"}, [1.234, 2]),
        ("a;b\n1,234;2,5\n", {}, [1.234, 2.5]),  # that of the second is no thousand
        ("a;b\n0,125;TRUE\n", {}, [0.125, 1]),
        ("a,b;c\n1,2\n", {}, [1, 2]),
        ("a b\n1   false\n", {"delimiter": "space"}, [1, 0]),
        ("a,b\n1.5e3, -2\n", {}, [1500, -2]),
    ],
)
def test_text_tables_with_one_reading(
    content: str, options: dict[str, Any], values: list[float], tmp_path: Path
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(content)
    assert read_table(path, **options).train.x.tolist() == [pytest.approx(values)]


def test_missing_labels_of_a_text_table_reach_the_check_of_labels(tmp_path: Path) -> None:
    from dbn.data.readers import read

    path = tmp_path / "data.csv"
    path.write_text("a,kind\n1,x\n2,\n3, \n")
    assert read(path, label_column="kind").y[""].tolist() == ["x", None, None]
    path.write_text("a,kind\n1,7\n2,\n")
    assert np.array_equal(read(path, label_column="kind").y[""], [7, np.nan], equal_nan=True)


def test_wide_and_long_tables(tmp_path: Path) -> None:
    wide, long = tmp_path / "wide.csv", tmp_path / "long.csv"
    wide.write_text(",".join(f"c{n}" for n in range(100_000)) + "\n" + (",".join(["1"] * 100_000) + "\n") * 3)
    long.write_text("a,b\n" + "0.5,1\n" * 100_000)
    assert read_table(wide).train.x.shape == (3, 100_000)
    assert read_table(long).train.x.shape == (100_000, 2)


SHUFFLED = "c,kind,a,b\n" + "".join(f"{c},{kind},{a},{b}\n" for (a, b, c), kind in zip(X, KINDS, strict=True))


def test_test_and_validation_files_are_matched_by_name(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(text(","))
    (tmp_path / "valid.csv").write_text(SHUFFLED)
    without = "c;b;a\n" + "".join(f"{c};{b};{a}\n" for a, b, c in X)
    (tmp_path / "test.csv").write_text(without)
    files = {name: tmp_path / f"{name.partition('_')[0]}.csv" for name in ("test_file", "valid_file")}
    splits = load_splits(str(tmp_path / "train.csv"), label_column="kind", **files)
    assert splits.test is not None
    for part in (splits.train, splits.valid, splits.test):
        assert np.array_equal(part.x, X)
    assert (splits.test.y, splits.test_is_cut) == (None, False)
    assert splits.valid.y is not None
    assert splits.valid.y.tolist() == Y.tolist()
    for changed, words in (
        (without.replace("b", "bb", 1), "test.csv lacks the column 'b' that .*train.csv has"),
        (
            without.replace(";b", ";b;e", 1).replace("\n0", "\n1;0"),
            "test.csv, line 2 has|lacks the column 'e' that .*test.csv has",
        ),
        ("c;b;a\n1;2;\n", "test.csv, line 2, column 'a': the cell is empty"),
        ("c;b;a\n1;2;inf\n", "test.csv, line 2, column 'a' is inf"),
    ):
        (tmp_path / "test.csv").write_text(changed)
        with pytest.raises(InputError, match=words):
            load_splits(str(tmp_path / "train.csv"), label_column="kind", **files)


def test_null_cells_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = frame()
    table["c"] = table["c"].where(table.index != 7)
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a.parquet, row 7 .*, column 'c' is nan"):
        read_table(tmp_path / "a.parquet", "kind")
    frame().to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"row 0 .*, column 'kind' is 'u', which is not a number"):
        read_table(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"no column 'sort', only 'a', 'b', 'c', 'kind'"):
        read_table(tmp_path / "a.parquet", "sort")


PARTS = {"x": X, "y": Y, "x_valid": X[:4], "y_valid": Y[:4], "x_test": X[:6], "y_test": Y[:6]}
NAMES = [
    {},
    {"x": "X_train", "y": "Y_train", "x_valid": "x_val", "y_valid": "y_val"},
    {"x": "train_images", "y": "train_labels", "x_valid": "val_images", "y_valid": "val_labels",
     "x_test": "test_images", "y_test": "test_labels"},
    {"x": "data", "y": "target", "x_test": "X_test"},
]  # fmt: skip


def check_parts(splits: Splits) -> None:
    for part, key in ((splits.train, ""), (splits.valid, "_valid"), (splits.test, "_test")):
        assert part is not None
        assert part.y is not None
        assert np.array_equal(part.x, PARTS[f"x{key}"])
        assert part.y.tolist() == PARTS[f"y{key}"].tolist()


@pytest.mark.parametrize("names", NAMES, ids=range(4))
@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_arrays_by_their_usual_names(names: dict[str, str], suffix: str, tmp_path: Path) -> None:
    arrays, path = {names.get(key, key): array for key, array in PARTS.items()}, tmp_path / f"a{suffix}"
    tensors = {name: torch.from_numpy(array).clone() for name, array in arrays.items()}
    if suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    check_parts(read_table(path))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": X, "data": X}, "'x' and 'data' may both be x"),
        ({"X": X, "x": X}, "'X' and 'x' may both be x"),
        ({"x": X, "y": Y, "labels": Y}, "'y' and 'labels' may both be y"),
        ({"arr_0": X, "arr_1": Y}, "called 'arr_0', 'arr_1', save them by name"),
        ({"x": X, "x_valid": X[:, :2]}, "x_valid has 2 columns but x has 3"),
    ],
)
def test_arrays_whose_roles_are_not_certain(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=words):
        read_table(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
def test_sparse_arrays_of_scipy(kind: str, tmp_path: Path) -> None:
    sparse = scipy.sparse.random_array((20, 5), density=0.4, format=kind, rng=np.random.default_rng(0))
    scipy.sparse.save_npz(tmp_path / "a.npz", sparse)
    assert np.array_equal(read_table(tmp_path / "a.npz").train.x, sparse.toarray().astype(np.float32))


def test_sparse_arrays_that_are_refused(tmp_path: Path) -> None:
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.random_array((20, 4), format="dia"))
    with pytest.raises(InputError, match="other than csr, csc and coo"):
        read_table(tmp_path / "a.npz")
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.csr_array((10**6, 10**5)))
    with pytest.raises(InputError, match=r"would take 372\.5 GiB"):
        read_table(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.utils.data.TensorDataset(torch.ones(20, 3)), "never unpickled"),
        ([torch.ones(20, 3)], "holds a list"),
        ({"x": [1.0]}, "x is a list"),
        ({"layers.weight": torch.ones(3)}, "no array 'x', only 'layers.weight'"),
        ({"x": torch.ones(20, 3).to("meta")}, "values cannot be read"),
    ],
)
def test_torch_files_that_are_no_tensors(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=words):
        read_table(tmp_path / "a.pt")


def test_one_tensor_of_short_floats(tmp_path: Path) -> None:
    x = torch.from_numpy(X).bfloat16()
    torch.save(x, tmp_path / "a.pt")
    assert torch.equal(read_table(tmp_path / "a.pt").train.x, x.float())


def picture(path: Path | BytesIO, value: int, shape: tuple[int, ...] = (6, 4)) -> None:
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path, "png")


def test_a_folder_of_pictures_a_class(tmp_path: Path) -> None:
    for n in range(12):
        picture(tmp_path / "train" / ("cat", "dog")[n % 2] / f"{n:02}.png", n)
        picture(tmp_path / "test" / ("cat", "dog")[n % 2] / f"{n:02}.png", 100 + n)
    splits = read_table(tmp_path)
    assert splits.test is not None
    assert splits.classes == ("cat", "dog")
    assert (splits.image_shape, splits.divisor, splits.train.x.dtype) == ((1, 6, 4), 255.0, torch.uint8)
    assert splits.train.x[:, 0].tolist() == [*range(0, 12, 2), *range(1, 12, 2)]
    assert splits.test.x[:, -1].tolist() == [*range(100, 112, 2), *range(101, 112, 2)]
    assert splits.test.y is not None
    assert splits.test.y.tolist() == [0] * 6 + [1] * 6
    small = read_table(tmp_path, image_size=(2, 3), colors="rgb")
    assert small.image_shape == (3, 2, 3)
    assert small.train.x[3].tolist() == [6] * 18
    flat = read_table(tmp_path / "train" / "cat")
    assert (len(flat.train), flat.classes) == (6, ())
    (tmp_path / ".cache").mkdir()
    picture(tmp_path / "car" / "a.png", 1)
    with pytest.raises(InputError, match="has the folder 'train', which holds training pictures, beside 'car': move"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((6, 5), r"odd.png is of 1×6×5 values .*, but .*a.png of 1×6×4: say --image-size"),
        ((6, 4, 3), r"say --colors gray or rgb"),
        ((6, 4, 4), "transparent in part"),
        ((), "damaged or no picture"),
    ],
)
def test_pictures_that_are_not_alike(shape: tuple[int, ...], words: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    if shape:
        picture(tmp_path / "odd.png", 2, shape)
    else:
        (tmp_path / "odd.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=words):
        read_table(tmp_path)


def test_folders_that_hold_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder without pictures"):
        read_table(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match=r"classes cat.*remove the empty folders"):
        read_table(tmp_path)
    picture(tmp_path / "a.png", 1)
    with pytest.raises(InputError, match="pictures beside folders"):
        read_table(tmp_path)


def saved_dataset(folder: Path, columns: dict[str, Any], features: dict[str, Any]) -> None:
    """What `datasets.Dataset.save_to_disk` writes."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc

    folder.mkdir()
    table = pyarrow.table(columns)
    with ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


LABEL = {"label": {"_type": "ClassLabel", "names": ["zebra", "ant"]}}


def test_saved_datasets_of_pictures(tmp_path: Path) -> None:
    cells = []
    for n in range(20):
        file = BytesIO()
        picture(file, n)
        cells.append({"bytes": file.getvalue(), "path": None})
    for split in ("train", "test"):
        columns = {"image": cells, "label": (1 - Y).tolist()}
        saved_dataset(tmp_path / split, columns, {"image": {"_type": "Image"}, **LABEL})
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    splits = read_table(tmp_path)
    assert splits.test is not None
    assert splits.classes == ("ant", "zebra")
    assert splits.image_shape == (1, 6, 4)
    for part in (splits.train, splits.test):
        assert part.y is not None
        assert part.x[:, 0].tolist() == list(range(20))
        assert part.y.tolist() == Y.tolist()  # zebra is the first name and the second class


def test_saved_datasets_of_lists_and_of_columns(tmp_path: Path) -> None:
    saved_dataset(tmp_path / "lists", {"x": X.tolist(), "label": Y.tolist()}, LABEL)
    lists = read_table(tmp_path / "lists")
    assert np.array_equal(lists.train.x, X)
    assert lists.classes == ("ant", "zebra")
    saved_dataset(tmp_path / "columns", {"a": X[:, 0], "b": X[:, 1] > 0, "kind": KINDS}, {})
    columns = read_table(tmp_path / "columns", "kind")
    assert np.array_equal(columns.train.x, X[:, :2])
    assert (columns.columns, columns.classes) == (("a", "b"), ("u", "v"))
    for split, order in (("train", "ab"), ("test", "ba")):
        saved_dataset(tmp_path / split, {name: X[:, "ab".index(name)] for name in order}, {})
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    both = read_table(tmp_path)
    assert both.test is not None
    assert (both.columns, both.test.x.tolist()) == (("a", "b"), X[:, :2].tolist())
    (tmp_path / "columns" / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_table(tmp_path / "columns", "kind")


@pytest.mark.parametrize(
    ("name", "shape", "classes"), [("iris", (150, 4), 3), ("wine", (178, 13), 3), ("breast_cancer", (569, 30), 2)]
)
def test_bundled_tables(name: str, shape: tuple[int, int], classes: int) -> None:
    pytest.importorskip("sklearn")
    splits = load_splits(name)
    assert splits.test is not None
    assert (len(splits.train) + len(splits.valid) + len(splits.test), splits.train.x.shape[1]) == shape
    assert (splits.n_classes, len(splits.columns)) == (classes, shape[1])
    assert "--visible gaussian" in splits.describe()


def test_bundled_digits() -> None:
    pytest.importorskip("sklearn")
    splits = load_splits("digits")
    assert (splits.image_shape, splits.classes, splits.divisor) == ((1, 8, 8), tuple("0123456789"), 1.0)
    assert splits.train.x.aminmax() == (0.0, 1.0)
    assert ((splits.train.x * 16) % 1 == 0).all()


def test_what_an_extra_is_needed_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(InputError, match=r"needs pyarrow: pip install 'torch-dbn\[tables\]'"):
        read_table(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"iris is part of scikit-learn: pip install 'torch-dbn\[sklearn\]'"):
        load_splits("iris")


def test_a_run_reads_its_files_again_as_it_was_told(tmp_path: Path) -> None:
    from dbn.config.common import DataConfig, to_dict
    from dbn.runs.resume import begin
    from dbn.runs.training_data import splits_of

    for part in ("train", "test"):
        for n in range(12):
            picture(tmp_path / part / ("cat", "dog")[n % 2] / f"{n:02}.png", n)
    for name, options in (
        (
            "pictures",
            {"dataset": str(tmp_path / "train"), "test_file": tmp_path / "test", "image_size": (2, 3), "colors": "rgb"},
        ),
        ("default", {"dataset": str(tmp_path / "train")}),
    ):
        config = DataConfig(**options)
        splits = load_splits(config.dataset, **config.reading())
        assert set(to_dict(config)) == {"dataset", "data_dir", "label_column", "split", *options}
        with begin(tmp_path / name, to_dict(config), resume=False, overwrite=False, data=splits.fingerprint):
            pass
        assert splits_of(tmp_path / name).fingerprint == splits.fingerprint
    (tmp_path / "test" / "cat" / "00.png").unlink()
    with pytest.raises(InputError, match="holds other examples"):
        splits_of(tmp_path / "pictures")
