"""Tables of numbers, two values and categories: from the cells to a stack, and back to cells."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from enumeration import Z
from sklearn.datasets import load_iris
from tiny import events
from torch.testing import assert_close

import dbn
from dbn.cli.command_line import run_script
from dbn.cli.commands import pretrain as pretrain_command
from dbn.cli.commands import sample as sample_command
from dbn.columns import Column
from dbn.config.inference import SampleConfig
from dbn.config.pretraining import PretrainConfig, Pretraining
from dbn.data.datasets import load_splits
from dbn.errors import InputError
from dbn.likelihood import log_partition
from dbn.models.scaling import Scaling
from dbn.models.units.mixed import Mixed

OPTIONS: dict[str, Any] = {"hidden": [4], "epochs": 2, "batch_size": 20, "device": "cpu", "visible": "auto"}
COLORS = np.array(["blue", "green", "red"])
NUMBERS = [20.0, 40.0, 60.0]


def table(n: int = 400, seed: int = 0) -> pandas.DataFrame:
    """Age follows the color, and so does who smokes; children and flags are noise."""
    rng = np.random.default_rng(seed)
    color = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    return pandas.DataFrame(
        {
            "age": np.take(NUMBERS, color) + rng.normal(0, 5, n),
            "smoker": np.where(rng.random(n) < np.take([0.9, 0.5, 0.1], color), "yes", "no"),
            "color": COLORS[color],
            "children": rng.integers(0, 4, n),
            "flag": rng.random(n) < 0.5,
        }
    )


TABLE = table()
KINDS = {"age": "gaussian", "smoker": "bernoulli", "color": "categorical", "children": "categorical",
         "flag": "bernoulli"}  # fmt: skip


def trained(x: Any = TABLE, **options: Any) -> dbn.DBN:
    return dbn.pretrain(x, **OPTIONS | options)


def one_hot(x: pandas.DataFrame) -> torch.Tensor:
    """The columns by hand, the age not standardized."""
    columns = [
        x["age"],
        x["smoker"] == "yes",
        *(x["color"] == color for color in COLORS),
        *(x["children"] == n for n in range(4)),
        x["flag"],
    ]
    return torch.tensor(np.stack(columns, 1).astype(np.float32))


def test_kinds_are_inferred_and_cells_become_the_units_of_their_kind() -> None:
    stack = trained()
    assert stack.scaling.kinds is not None
    assert {name: column.kind for name, column in stack.scaling.kinds.items()} == KINDS
    assert stack.layers[0].visible.spec == (
        "1 gaussian + 1 bernoulli + 3 categorical(states=3) + 4 categorical(states=4) + 1 bernoulli"
    )
    assert (stack.width, stack.sizes) == (5, [10, 4])
    assert stack.scaling.shift is not None
    assert stack.scaling.spread is not None
    assert_close(stack.scaling.shift[1:], torch.zeros(9))
    assert_close(stack.scaling.spread[1:], torch.ones(9))
    wanted = one_hot(TABLE)
    wanted[:, 0] = (wanted[:, 0] - stack.scaling.shift[0]) / stack.scaling.spread[0]
    assert_close(stack.scale(TABLE), wanted)
    assert_close(stack.up(TABLE), stack.layers[0].up(wanted))
    assert abs(float(wanted[:, 0].mean())) < 0.1


def test_cells_come_back() -> None:
    stack = trained()
    codes = stack.scaling.inverse(stack.scale(TABLE))
    cells = stack.cells(codes)
    assert list(cells) == list(TABLE.columns)
    assert cells["color"] == TABLE["color"].tolist()
    assert cells["smoker"] == TABLE["smoker"].tolist()
    assert cells["flag"] == TABLE["flag"].astype(str).tolist()
    assert cells["children"] == TABLE["children"].astype(str).tolist()
    assert cells["age"] == pytest.approx(TABLE["age"].tolist(), rel=1e-5)
    again = pandas.DataFrame(cells)
    assert_close(stack.scale(again), stack.scale(TABLE), rtol=1e-4, atol=1e-5)


def test_columns_are_matched_by_name_in_any_order_and_rows_may_be_few() -> None:
    stack = trained()
    others = TABLE[["flag", "color", "age", "children", "smoker"]]
    assert torch.equal(stack.scale(others), stack.scale(TABLE))
    assert torch.equal(stack.scale(others[:2]), stack.scale(TABLE)[:2])
    as_rows = TABLE.astype(object).to_numpy().tolist()
    assert torch.equal(stack.scale(as_rows), stack.scale(TABLE))


def test_a_frame_a_text_table_and_a_parquet_file_give_the_same_stack(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "t.csv", index=False, float_format="%.17g")
    TABLE.to_parquet(tmp_path / "t.parquet")
    kinds: Any = {}
    first, *others = [load_splits(str(tmp_path / name), kinds=kinds) for name in ("t.csv", "t.parquet")]
    assert first.table == tuple(
        Column(kind, categories)
        for kind, categories in zip(
            KINDS.values(), [(), ("no", "yes"), tuple(COLORS), ("0", "1", "2", "3"), ("False", "True")], strict=True
        )
    )
    for other in others:
        assert (other.table, other.columns) == (first.table, first.columns)
        assert torch.equal(other.train.tensor, first.train.tensor)


def test_a_stack_keeps_kinds_and_categories_in_its_files(tmp_path: Path) -> None:
    stack = trained(run=tmp_path / "run", column_kinds={"children": "gaussian"})
    assert stack.scaling.table[3] == Column("gaussian")
    loaded = dbn.load(tmp_path / "run")
    assert loaded.description() == stack.description()
    assert torch.equal(loaded.up(TABLE), stack.up(TABLE))
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert "- children=gaussian" in written
    assert "- color=categorical" in written
    assert "auto" not in written
    whole = trained(run=tmp_path / "run", column_kinds={"children": "gaussian"}, resume=True)
    assert all(torch.equal(value, stack.state_dict()[name]) for name, value in whole.state_dict().items())


def test_descriptions_of_before_have_no_table() -> None:
    found = Scaling.from_description({"divisor": 1.0, "shift": None, "spread": None})
    assert (found.table, found.codes, found.kinds) == ((), None, None)
    assert {"codes", "table"}.isdisjoint(found.provenance())


def test_samples_have_the_marginals_and_pairwise_tables_of_the_model() -> None:
    """Against the sum over the hidden states of a small trained model, in which color, age and smoking depend."""
    x = table(600, seed=1)[["age", "smoker", "color"]]
    stack = trained(x, epochs=30, batch_size=10, estimator="pcd", learning_rate=0.05)
    rbm = stack.layers[0]
    h = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    log_p = -rbm.transposed().free_energy(h).double()
    assert float(log_p.logsumexp(0)) == pytest.approx(log_partition(rbm), abs=1e-4)
    p, mean = log_p.softmax(0), rbm.down(h).double()
    pairs = torch.einsum("h,hi,hj->ij", p, mean, mean)
    yes = pairs[1, 2:] / (p @ mean)[2:]
    assert yes[0] > yes[2] + 0.3, "the model has not learned who smokes"
    ages = pairs[0, 2:] / (p @ mean)[2:]
    assert ages[0] + 1 < ages[2], "the model has not learned the ages"

    n = 4000
    cells = pandas.DataFrame(stack.cells(stack.sample(n, steps=100)))
    v = stack.scale(cells).double()
    seen, squares = v.T @ v / n, (v**2).T @ (v**2) / n
    error = ((squares - seen**2).clamp_min(1e-12) / n).sqrt()
    off = ~torch.eye(5, dtype=torch.bool)
    off[2:, 2:] = False  # two colors at once, and none twice
    assert ((seen - pairs) / error)[off].abs().max() < Z
    spread = v.std(0) / n**0.5
    assert ((v.mean(0) - p @ mean) / spread).abs().max() < Z


def test_iris_with_made_categories() -> None:
    x, y = load_iris(return_X_y=True)
    frame = pandas.DataFrame(x[:, :3], columns=["sepal length", "sepal width", "petal length"])
    frame["petals"] = np.array(["narrow", "middle", "wide"])[np.digitize(x[:, 3], [0.8, 1.7])]
    frame["large"] = x[:, 0] > 5.8
    stack = trained(frame, epochs=60, batch_size=10)
    assert [each.kind for each in stack.scaling.table] == ["gaussian"] * 3 + ["categorical", "bernoulli"]
    rbm = stack.layers[0]
    scaled = stack.scale(frame)
    mean, variance = scaled.mean(0), scaled.var(0, correction=0)
    alone = rbm.uncoupled()
    alone.visible.fit_marginals(mean, variance, len(scaled))
    learned, base = (-float(each.free_energy(scaled).mean()) - log_partition(each) for each in (rbm, alone))
    assert learned > base + 0.5, "no better than independent columns"
    found = dbn.evaluate(stack, frame, exact=True).to_dict()
    assert stack.scaling.spread is not None
    lost = float(stack.scaling.spread.log().sum())
    assert found["test_log_likelihood"] == pytest.approx(learned - lost, abs=1e-3)
    cells = stack.cells(stack.sample(50, steps=20))
    assert set(cells["petals"]) <= {"narrow", "middle", "wide"}
    result = dbn.compare(
        frame, y, pretrained=[stack], init=("dbn", "xavier_uniform"), seeds=1, epochs=2, device="cpu", learning_rate=0.1
    )
    classifier = result.best()
    assert classifier.predict_proba(frame).shape == (150, 3)
    assert torch.equal(classifier.predict_proba(frame[frame.columns[::-1]]), classifier.predict_proba(frame))
    wrong = frame.astype({"petals": str})
    wrong.loc[7, "petals"] = "round"
    for call in (classifier.predict_proba, stack.up, lambda rows: dbn.evaluate(stack, rows, exact=True)):
        with pytest.raises(InputError, match=r"row 7 \(counted from 0\), column 'petals' is 'round', which is none of"):
            call(wrong)


def test_the_commands_print_the_kinds_and_write_samples_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    words = ["--dataset", str(tmp_path / "t.csv"), "--visible", "auto", "--column-kinds", "children=gaussian"]
    words += ["--hidden", "4", "--epochs", "1", "--run", str(tmp_path / "run"), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["pretrain", *words])
    run_script(pretrain_command.COMMAND.main, PretrainConfig, "")
    shown = capsys.readouterr().out
    assert "color   categorical  'blue', 'green', 'red'" in shown.replace("color     ", "color   ")
    for start in ("data", "noise"):
        words = ["--run", str(tmp_path / "run"), "--output", str(tmp_path / "s.csv"), "--count", "12", "--steps", "3"]
        monkeypatch.setattr("sys.argv", ["sample", *words, "--start", start, "--device", "cpu"])
        run_script(sample_command.COMMAND.main, SampleConfig, "")
        rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
        assert list(rows[0]) == list(TABLE.columns)
        assert len(rows) == 12
        assert {row["color"] for row in rows} <= set(COLORS)
        assert {row["flag"] for row in rows} <= {"True", "False"}
        assert all(float(row["age"]) for row in rows)
    monkeypatch.setattr("sys.argv", ["sample", *words[:2], "--output", str(tmp_path / "s.png"), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        run_script(sample_command.COMMAND.main, SampleConfig, "")
    assert ended.value.code == 2
    assert "samples of" in capsys.readouterr().err


def test_samples_of_plain_rows_ask_for_a_shape_whatever_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dbn.pretrain(torch.rand(20, 6), hidden=[2], epochs=1, device="cpu", run=tmp_path / "run")
    for name in ("s.csv", "s.png"):
        monkeypatch.setattr("sys.argv", ["sample", "--run", str(tmp_path / "run"), "--output", str(tmp_path / name)])
        with pytest.raises(SystemExit) as ended:
            run_script(sample_command.COMMAND.main, SampleConfig, "")
        assert ended.value.code == 2
        assert "without an image shape: name it with --image-shape" in capsys.readouterr().err
        assert not (tmp_path / name).exists()


def changed(column: str, row: int, value: Any) -> pandas.DataFrame:
    x = TABLE.astype(object)
    x.loc[row, column] = value
    return x


@pytest.mark.parametrize(
    ("x", "kinds", "said"),
    [
        (changed("color", 5, None), {}, "row 5 .*, column 'color' is missing: fill it in"),
        (changed("age", 5, float("nan")), {}, "row 5 .*, column 'age' is missing: fill it in"),
        (TABLE, {"color": "gaussian"}, "row 0 .*, column 'color' is '.*', which is not a number"),
        (
            changed("age", 5, "NA"),
            {"age": "gaussian"},
            "'NA', which is not a number: .* a missing value, leave the cell empty",
        ),
        (TABLE, {"color": "bernoulli"}, "^x: column 'color' has 3 different values, but bernoulli needs 2"),
        (TABLE, {"colour": "categorical"}, "no column 'colour', as column_kinds says, only 'age'"),
        (TABLE, {"color": "number"}, "column_kinds takes COLUMN=KIND with gaussian or bernoulli or categorical"),
        (TABLE.assign(name=[f"n{n}" for n in range(400)]), {}, "'name' has 400 different texts in 400 rows"),
        (TABLE.assign(unit="cm"), {}, "column 'unit' holds 'cm' alone"),
        (torch.zeros(20, 1, 4, 4), {}, "no table in memory"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(x: Any, kinds: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        trained(x, column_kinds=kinds, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"visible": "bernoulli", "column_kinds": ("a=gaussian",)}, "--column-kinds needs --visible auto"),
        ({"hidden_units": ("2 bernoulli + 2 spin",)}, "several types are for the data alone"),
        ({"visible": "2 bernoulli + 1 gausian"}, "--visible must be one of"),
        ({"visible": "2 bernoulli + 1 spin", "binarize": "fixed"}, "does not go with --visible"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Pretraining(**options)


@pytest.mark.parametrize(
    ("visible", "change", "said"),
    [
        ("1 bernoulli + 1 gaussian", None, "takes 2 columns, but the data have 3"),
        ("1 bernoulli + 1 gaussian + 2 categorical(states=3)", None, "no groups of 3"),
        ("1 bernoulli + 1 gaussian + 3 categorical(states=3)", (4, 2, 3.0), "has 3 in row 4, column 2"),
        (
            "1 bernoulli + 1 gaussian + 3 categorical(states=3)",
            (4, 0, 2.0),
            "go from 0 to 2, 2 in row 4, column 0 .*, but Bernoulli units need",
        ),
    ],
)
def test_named_parts_take_numbers_and_codes(visible: str, change: Any, said: str) -> None:
    x = torch.tensor([[0.0, 5.5, 2.0], [1.0, -3.0, 0.0]] * 15)
    right = dbn.pretrain(x, **OPTIONS | {"visible": "1 bernoulli + 1 gaussian + 3 categorical(states=3)"})
    assert isinstance(right.layers[0].visible, Mixed)
    assert_close(right.scale(x)[:, [0, 2, 3, 4]], torch.tensor([[0.0, 0, 0, 1], [1.0, 1, 0, 0]]).repeat(15, 1))
    assert right.sample(3, steps=2).shape == (3, 3)
    if change:
        x[change[0] :: 15, change[1]] = change[2]
    with pytest.raises(InputError, match=said.replace("row 4", r"row \d+")):
        dbn.pretrain(x, **OPTIONS | {"visible": visible})


def test_two_words_for_truth_are_one() -> None:
    """Booleans of a frame, words of a text table, and 0 and 1."""
    where = "row {}".format
    assert Column("bernoulli", ("False", "True")).codes([True, "True", 1, 0.0, False], where) == [1, 1, 1, 0, 0]
    assert Column("bernoulli", ("0", "1")).codes([True, 1, "0", False], where) == [1, 1, 0, 0]


def test_numbers_of_another_scale_and_values_that_a_part_never_takes_are_refused() -> None:
    stack = trained()
    for factor, shift in ((100, 0), (0.001, float(TABLE.age.mean()))):
        changed_scale = TABLE.assign(age=(TABLE.age - TABLE.age.mean()) * factor + shift)
        with pytest.raises(InputError, match="x is of another scale than the stack was trained on"):
            stack.scale(changed_scale)
        assert stack.scale(changed_scale, 1.0).isfinite().all()  # said to be on that scale
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=200), rng.integers(0, 6, 200), rng.exponential(size=200), rng.random(200)], 1)
    parts = trained(x, visible="1 gaussian + 1 binomial(trials=5) + 1 relu + 1 bernoulli", column_kinds=())
    for column, value, words in (
        (1, 7, r"in \[0, 5\] there"),
        (2, -1, "of 0 or more there"),
    ):
        wrong = x.copy()
        wrong[9, column] = value
        for stack in (parts, dbn.DBN.from_description(parts.description())):
            with pytest.raises(
                InputError, match=f"x has {value} in row 9, column {column} .* trained on values {words}"
            ):
                stack.scale(wrong)
    assert parts.scale(x).shape == (200, 4)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            [*map(str, range(40)), "n.a."],
            "x, row 40 .*, column 'b' is 'n.a.', but 40 of 41 cells .* are numbers: correct",
        ),
        ([f"{number}%" for number in range(40)], "column 'b' holds percentages, as '0%': leave the sign % out"),
    ],
)
def test_cells_that_keep_a_column_from_being_numbers_are_named(cells: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        trained(pandas.DataFrame({"a": np.arange(len(cells)) / 3, "b": cells}))


def test_tensorboard_shows_samples_of_a_table_below_real_rows(tmp_path: Path) -> None:
    named = TABLE.rename(columns={"smoker": "smo|ker"})
    trained(named, run=tmp_path / "run", epochs=1)
    (text,) = events(tmp_path / "run").Tensors("layer1/samples/text_summary")[0].tensor_proto.string_val
    header, rule, *rows = text.decode().splitlines()
    assert [cell.strip() for cell in header.replace("\\|", "/").split("|")[2:-1]] == [
        "age", "smo/ker", "color", "children", "flag"
    ]  # fmt: skip
    assert set(rule) == {"|", "-"}
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert [row[0] for row in cells[:5]] == ["**data 1**", "1 step", "10 steps", "50 steps", "**data 2**"]
    known = {tuple(map(str, row)) for row in TABLE.drop(columns="age").itertuples(index=False)}
    assert all(tuple(row[2:]) in known for row in cells[::4])
    for _, age, smoker, color, children, flag in cells:
        assert -20 < float(age) < 120
        assert {children, flag} <= {*"0123", "True", "False"}
        assert smoker in ("yes", "no")
        assert color in COLORS
