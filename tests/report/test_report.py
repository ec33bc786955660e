"""Reports: complete, safe to open, the same for the same run; and what is said where there can be none."""

import csv
import json
import shlex
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tiny import pictures, save_pictures

import dbn
from dbn.cli import reports
from dbn.cli.command_line import parse
from dbn.cli.commands import COMMANDS
from dbn.cli.program import main
from dbn.config import CONFIGS, StudyConfig, StudyTraining
from dbn.config.common import to_dict
from dbn.errors import InputError
from dbn.report import write_report
from dbn.report.page import Gallery, Picture, Section, Text
from dbn.report.write import _of_size
from dbn.runs.asked import command, kind_of
from dbn.runs.folder import RunFolder
from dbn.text_tables import markdown_table

HOSTILE = "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "]]>{{ 7*7 }}&amp;$x_1$"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Reader(HTMLParser):
    """Tags, attributes and text of a page; an error for a tag that is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.words)


def numbers(value: Any) -> list[str]:
    """Every number, as JSON has it."""
    if isinstance(value, dict | list):
        return [number for each in (value.values() if isinstance(value, dict) else value) for number in numbers(each)]
    return [] if value is None or isinstance(value, str | bool) else [json.dumps(value)]


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["torch-dbn", *map(str, words)])
    main()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack with an evaluation, and a comparison with hostile classes, each with its report."""
    folder = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_pictures(folder / "x.npz")
        run(patch, "pretrain", "--dataset", "x.npz", "--run", "pre", "--hidden", 7, 5, "--epochs", 2)
        run(patch, "report", "pre", "--output", "first.html")
        run(patch, "evaluate", "--run", "pre", "--exact", "--binarize", "threshold")
        run(patch, "report", "pre")
        x, y = pictures()
        names = [HOSTILE[label] for label in y]
        dbn.compare(x, names, init=("he_normal", "zeros"), hidden=[5], seeds=2, epochs=2, run=folder / "fine")
    write_report(folder / "fine")
    return folder


@pytest.mark.parametrize("name", ["pre", "fine"])
def test_every_number_of_the_result_is_in_the_text(name: str, folder: Path) -> None:
    found = json.loads((folder / name / "result.json").read_text())
    text = Reader(folder / name / "report.html").text
    assert len(numbers(found)) > 20
    assert [number for number in numbers(found) if number not in text] == []


@pytest.mark.parametrize("name", ["pre", "fine"])
def test_nothing_runs_and_nothing_is_asked_for(name: str, folder: Path) -> None:
    page = Reader(folder / name / "report.html")
    assert {"script", "link", "iframe", "object", "form", "a", "base", "svg"} & page.tags == set()
    assert [value for key, value in page.attributes if key in ("src", "href")
            and not str(value).startswith("data:image/")] == []  # fmt: skip
    assert [key for key, _ in page.attributes if key.startswith("on") or key == "style"] == []
    assert ("content", POLICY) in page.attributes
    assert ("content", "width=device-width, initial-scale=1") in page.attributes
    source = (folder / name / "report.html").read_text(encoding="utf-8")
    assert "<script" not in source
    assert "http:" not in source
    assert "https:" not in source
    assert "prefers-color-scheme: dark" in source
    assert len(source.encode()) < 3_000_000


@pytest.mark.parametrize("name", ["pre", "fine"])
def test_the_same_run_gives_the_same_bytes(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    before = (folder / name / "report.html").read_bytes()
    assert write_report(folder / name, folder / "other.html").read_bytes() == before


def test_the_end_of_a_run_gives_what_the_command_gives(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """There the rows are in memory, here they are read again."""
    monkeypatch.chdir(folder)
    shutil.copytree(folder / "pre", tmp_path / "pre")
    (tmp_path / "pre" / "result.json").unlink()
    assert write_report(tmp_path / "pre").read_bytes() == (folder / "first.html").read_bytes()


def test_what_pre_training_came_to_is_shown(folder: Path) -> None:
    page = Reader(folder / "pre" / "report.html")
    for title in ("Warnings", "Layers", "Curves of layer 2", "Log Z and likelihood", "Reconstructions", "Filters",
                  "Samples", "Hidden activity", "What was asked", "Versions"):  # fmt: skip
        assert title in page.words
    assert "A stack of 36 – 7 – 5 units, trained layer by layer." in page.words
    captions = [str(value) for key, value in page.attributes if key == "alt"]
    assert len(captions) >= 2 * 5 + 2 + 2 + 1 + 2
    assert any(each.startswith("After 100 Gibbs steps from validation rows") for each in captions)


def test_hostile_classes_stay_text(folder: Path) -> None:
    page = Reader(folder / "fine" / "report.html")
    for name in HOSTILE:
        assert name in page.words
    assert "49" not in page.words


def test_hostile_columns_and_file_names_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = "<script>b.csv"
    with (tmp_path / file).open("w", newline="") as opened:
        csv.writer(opened).writerows([HOSTILE, *([n % 2, n % 3 % 2, n % 5 % 2] for n in range(120))])
    words = "--hidden", 3, "--epochs", 1, "--visible", "auto"
    run(monkeypatch, "pretrain", "--dataset", file, "--run", "<b>run", *words)
    run(monkeypatch, "report", "<b>run")
    page = Reader(tmp_path / "<b>run" / "report.html")
    assert {"script", "b"} & page.tags == set()
    assert f"Pre-training: {file}" in page.words
    assert set(HOSTILE) <= set(page.words)


def test_a_label_model_has_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = pictures()
    dbn.train_label_model(x, y, hidden=6, epochs=2, run=tmp_path / "label")
    page = Reader(write_report(tmp_path / "label"))
    assert "Samples by class" in page.words
    assert any(word.startswith("Validation error ") for word in page.words)


@pytest.mark.slow
def test_a_study_has_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_pictures(tmp_path / "x.npz")
    words = "--init", "he_normal", "zeros", "--labels", 30, "--seeds", 2, "--epochs", 2, "--hidden", 5
    run(monkeypatch, "study", "--dataset", "x.npz", "--run", "study", *words)
    run(monkeypatch, "report", "study")
    text = Reader(tmp_path / "study" / "report.html").text
    records = [json.loads(line) for line in (tmp_path / "study" / "results.jsonl").read_text().splitlines()]
    assert [number for number in numbers(records) if number not in text] == []
    assert "Test error (%): 5 hidden units" in text
    assert "Mean over seeds ± 95 % interval (Student's t)" in text


def test_the_text_of_a_study_becomes_tables(tmp_path: Path) -> None:
    config = to_dict(StudyConfig(dataset="x.npz", hidden=(5,), training=StudyTraining(init=("zeros",))))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    table = markdown_table(["arm", "30 labels"], [["zeros", "**50.00**, <b>"], ["he_normal", "pending"]])
    paragraphs = (
        "# Study <i>",
        "In progress: 1 of 2.",
        "## Test error (%)",
        "### 5 hidden units",
        table,
        "```\na  b\n```",
    )
    (tmp_path / "study.md").write_text("\n\n".join(paragraphs) + "\n")
    (tmp_path / "results.jsonl").write_text('{"test_error": 50.012345}\n')
    page = Reader(write_report(tmp_path))
    for words in (
        "Study <i>",
        "In progress: 1 of 2.",
        "Test error (%): 5 hidden units",
        "50.00, <b>",
        "pending",
        "a  b",
    ):
        assert words in page.words
    assert "50.012345" in page.text
    assert {"b", "i"} & page.tags == set()


def test_the_command_repeats_the_run(folder: Path) -> None:
    run = RunFolder.open(folder / "pre")
    options = run.read_config()
    program, verb, *words = shlex.split(command(kind_of(run, options), options))
    assert (program, verb) == ("torch-dbn", "pretrain")
    again = to_dict(parse(CONFIGS[verb], words, description=""))
    assert again | {"run": "pre"} == options


def test_pictures_beyond_the_size_are_left_out() -> None:
    picture = Picture("data:image/png;base64," + "A" * 1000, "a picture")
    sections = [Section("one", [picture, Gallery([picture] * 3)]), Section("two", [Text("kept"), picture])]
    one, two = _of_size(sections, 2500)
    assert one.blocks == [picture, Text("3 pictures are left out: with them the file would be too large to send.")]
    assert two.blocks == [Text("kept"), picture]


def test_without_matplotlib_the_command_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    output = tmp_path / "a.html"
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "report", folder / "pre", "--output", output)
    assert stop.value.code == 2
    assert "pip install 'torch-dbn[plots]'" in capsys.readouterr().err
    assert not output.exists()


def test_a_command_that_took_long_writes_its_report(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    asked: list[Path] = []

    def write(run: Path) -> Path:
        asked.append(run)
        if len(asked) > 1:
            raise InputError("figures need matplotlib")
        return run / "report.html"

    monkeypatch.setattr("dbn.report.write.write_report", write)
    config = SimpleNamespace(run=Path("run"))
    clock = iter([0.0, reports.LONG - 1, 0.0, reports.LONG, 0.0, reports.LONG, 0.0, reports.LONG])
    monkeypatch.setattr(reports, "monotonic", lambda: next(clock))
    main = reports.reporting(lambda config: print("done."))
    main(config)
    assert capsys.readouterr().out == "done.\n"
    main(config)
    assert capsys.readouterr().out == f"done.\nThe report is in {Path('run') / 'report.html'}.\n"
    main(config)
    assert capsys.readouterr().out == "done.\nNo report is written: figures need matplotlib.\n"
    monkeypatch.setenv("RANK", "1")
    main(config)
    assert len(asked) == 2
    assert {verb for verb in COMMANDS if COMMANDS[verb].reports} == {"pretrain", "label-model", "finetune", "study"}


@pytest.mark.parametrize(
    ("name", "broken", "said"),
    [
        ("missing", None, "there is no run folder .*missing: check the name"),
        ("pre", {"config.yaml": None}, "is not a run folder: it holds no config.yaml"),
        ("pre", {"config.yaml": "a: 1"}, "is no run of pretrain, label-model, finetune or study by its config.yaml"),
        ("pre", {"dbn.safetensors": None}, "holds no whole stack yet: go on with its training, pretrain --resume"),
        ("pre", {"dbn.safetensors": "x"}, "dbn.safetensors is damaged"),
        ("pre", {"metrics.jsonl": "{}\n{}\n"}, "is damaged or of another kind, its files are not those of a run"),
        ("pre", {"result.json": "{"}, "result.json is damaged or of another kind, it is not JSON"),
        ("fine", {"result.json": None}, "is no finished run of finetune: end it with finetune --resume --run"),
        ("fine", {"result.json": "{}"}, "is damaged or of another kind, its files are not those of a run of finetune"),
    ],
)
def test_what_has_no_report_is_said_in_a_sentence(
    name: str, broken: dict[str, str | None] | None, said: str, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(folder)
    if broken is not None:
        shutil.copytree(folder / name, tmp_path / name)
        (tmp_path / name / "report.html").unlink()
    for file, content in (broken or {}).items():
        (tmp_path / name / file).unlink()
        if content is not None:
            (tmp_path / name / file).write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        write_report(tmp_path / name)
    assert not str(caught.value).endswith(".")
    assert not (tmp_path / name / "report.html").exists()


def test_one_output_is_of_one_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "report", folder / "pre", folder / "fine", "--output", tmp_path / "a.html")
    assert "--output names one file, but there are 2 runs: leave it out" in capsys.readouterr().err
    run(monkeypatch, "report", folder / "fine", "--output", tmp_path / "a.html")
    assert capsys.readouterr().out == f"The report is in {tmp_path / 'a.html'}.\n"
    assert (tmp_path / "a.html").read_bytes() == (folder / "fine" / "report.html").read_bytes()
