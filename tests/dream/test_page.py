"""The page of a run: one safe file, the same for the same run; and what has none is said in a sentence."""

import csv
import re
import sys
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from javascript import model_of, needs_node, run
from tiny import pictures, save_pictures
from torch.testing import assert_close

import dbn
from dbn.cli.program import main
from dbn.dream import write_dream
from dbn.errors import InputError
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.units import UNITS, Bernoulli, Gaussian
from dbn.models.units.naming import make_units
from dbn.runs.weights import save_stack

HOSTILE = "</script><script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "<!--{{ 7*7 }}&amp;"


class Reader(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.inside: dict[str, list[str]] = {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.tags:
            self.inside.setdefault(self.tags[-1], []).append(data)


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["torch-dbn", *map(str, words)])
    main()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack of pictures, a comparison, a label model of hostile classes, and a stack of a table of hostile names."""
    folder = tmp_path_factory.mktemp("dreams")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_pictures(folder / "x.npz")
        command(patch, "pretrain", "--dataset", "x.npz", "--run", "pre", "--hidden", 7, 5, "--epochs", 1)
        words = "--init", "dbn", "he_normal", "--seeds", 2, "--epochs", 1, "--labels", 40
        command(patch, "finetune", "--pretrained", "pre", "--run", "fine", *words)
        x, y = pictures()
        dbn.train_label_model(x, [HOSTILE[label] for label in y], hidden=6, epochs=1, run=folder / "label")
        with (folder / "<b>.csv").open("w", newline="") as file:
            rows = [[n / 7, HOSTILE[n % 3], n % 2] for n in range(90)]
            csv.writer(file).writerows([[HOSTILE[0], "kind", "is"], *rows])
        words = "--hidden", 3, "--epochs", 1, "--visible", "auto"
        command(patch, "pretrain", "--dataset", "<b>.csv", "--run", "table", *words)
        for name in ("pre", "fine", "label", "table"):
            command(patch, "dream", name)
    return folder


EACH = pytest.mark.parametrize("name", ["pre", "fine", "label", "table"])


@EACH
def test_only_the_script_of_the_page_runs_and_nothing_is_asked_for(name: str, folder: Path) -> None:
    path = folder / name / "dream.html"
    page, source = Reader(path), path.read_text(encoding="utf-8")
    policy = next(str(value) for key, value in page.attributes if key == "content")
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", source, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    hashes = ["sha256-" + b64encode(sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert policy.startswith(f"default-src 'none'; script-src '{hashes[0]}'; style-src '{hashes[1]}'; img-src data:;")
    assert [value for key, value in page.attributes if key in ("src", "href")] == ["data:,"]
    assert [key for key, _ in page.attributes if key.startswith("on") or key in ("style", "action")] == []
    assert {"img", "iframe", "form", "a", "object"} & {*page.tags} == set()
    assert "http" not in source.lower().replace("http-equiv", "")
    assert "<" not in data
    assert "innerHTML" not in script
    assert ("content", "width=device-width, initial-scale=1") in page.attributes
    assert "prefers-color-scheme: dark" in style


def test_hostile_names_stay_text(folder: Path) -> None:
    assert model_of(folder / "label" / "dream.html")["classes"] == sorted(HOSTILE)
    data = model_of(folder / "table" / "dream.html")
    assert [each["name"] for each in data["columns"]] == [HOSTILE[0], "kind", "is"]
    assert data["columns"][1]["choices"] == sorted(HOSTILE)
    assert Reader(folder / "table" / "dream.html").inside["h1"][0] == "<b>.csv"


@EACH
def test_the_same_run_gives_the_same_bytes(name: str, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    assert write_dream(name, tmp_path / "a.html").read_bytes() == (folder / name / "dream.html").read_bytes()


def test_a_page_has_what_its_model_has(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    judged = write_dream("pre", tmp_path / "a.html", classifier="fine")
    ids = {
        name: {value for key, value in Reader(path).attributes if key == "id"}
        for name, path in {
            **{name: folder / name / "dream.html" for name in ("pre", "fine", "label", "table")},
            "judged": judged,
        }.items()
    }
    assert {"drawing", "reconstruction", "dream", "steps", "temperature", "layers"} <= ids["pre"]
    assert not {"answers", "label", "columns"} & ids["pre"]
    assert {"drawing", "answers"} <= ids["fine"]
    assert not {"dream", "step", "reconstruction"} & ids["fine"]
    assert {"dream", "answers", "label"} <= ids["label"]
    assert {"columns", "steps"} <= ids["table"]
    assert "drawing" not in ids["table"]
    assert {"dream", "answers"} <= ids["judged"]
    assert model_of(folder / "fine" / "dream.html")["image"]["shape"] == [1, 6, 6]
    data = model_of(judged)
    assert (len(data["rbms"]), data["network"]["names"]) == (2, ["0", "1", "2"])


@needs_node
def test_the_page_of_a_run_answers_as_the_run(folder: Path) -> None:
    x, _ = pictures()
    rows = (torch.from_numpy(x[:50]).flatten(1).double() / 255).tolist()
    classifier, label_model = dbn.load_classifier(folder / "fine"), dbn.load_label_model(folder / "label")
    code = """
    const network = prepare(fine), labels = prepare(label);
    return rows.map((row) => {
      const outputs = networkActivities(network.network, scaled(network, row)).at(-1);
      return [answersOf(network.network, outputs), classProbabilities(labels, scaled(labels, row))];
    });
    """
    models = {name: model_of(folder / name / "dream.html") for name in ("fine", "label")}
    found = run(code, rows=rows, **models)
    assert_close(torch.tensor([each[0] for each in found]), classifier.predict_proba(x[:50]), rtol=0, atol=1e-5)
    assert_close(torch.tensor([each[1] for each in found]), label_model.predict_proba(x[:50]), rtol=0, atol=1e-5)


def copied(folder: Path, place: Path, stack: DBN) -> Path:
    """A run of that stack."""
    place.mkdir()
    for name in ("config.yaml", "versions.json"):
        (place / name).write_bytes((folder / "pre" / name).read_bytes())
    save_stack(place, stack)
    return place


def test_chains_that_diverge_and_models_of_classes_alone_have_no_gibbs_steps(folder: Path, tmp_path: Path) -> None:
    rbm = RBM(Gaussian(3), Gaussian(2))
    with torch.no_grad():
        rbm.weight.fill_(5.0)
    page = Reader(write_dream(copied(folder, tmp_path / "strong", DBN([rbm]))))
    assert "The top RBM has no finite Z, so that its chains diverge: there are no Gibbs steps." in page.inside["p"]
    assert ("id", "step") not in page.attributes
    x, y = pictures()
    dbn.train_label_model(x, y, hidden=3, epochs=1, gradient="discriminative", run=tmp_path / "alone")
    page = Reader(write_dream(tmp_path / "alone"))
    assert any(words.startswith("The model has learned classes alone") for words in page.inside["p"])
    assert not {("id", "step"), ("id", "reconstruction")} & {*page.attributes}


class Sign(Bernoulli):  # type: ignore[misc]
    """Units of which a page knows nothing."""

    kind = "sign"


def test_what_a_page_cannot_show_is_said_in_a_sentence(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setitem(UNITS, "sign", Sign)
    wide = copied(folder, tmp_path / "wide", DBN([RBM(Bernoulli(784), Bernoulli(2))]))
    sign = copied(folder, tmp_path / "sign", DBN([RBM(Bernoulli(4), make_units("sign", 2))]))
    (tmp_path / "empty").mkdir()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"run": tmp_path / "missing"}, "there is no run folder"),
        ({"run": tmp_path / "empty"}, "is not a run folder"),
        ({"run": wide}, "rows of 784 values without an image shape are too many for sliders, of which a page has up to "
                        "300: if they are images, name their shape with image_shape, such as 28x28"),
        ({"run": wide, "image_shape": "28x27"}, "image_shape 28x27 has 756 values, but .*wide was trained on"),
        ({"run": wide, "image_shape": "28"}, "image_shape must be HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH"),
        ({"run": sign}, "a page cannot compute sign units, only 'bernoulli', 'binomial'"),
        ({"run": "fine", "classifier": "fine"}, "fine is a run of finetune: leave classifier out"),
        ({"run": "table", "classifier": "fine"}, "classifier fine was trained on data of another width or scale than"),
        ({"run": "pre", "init": "dbn"}, "pre has no arms: leave init out"),
        ({"run": "fine", "init": "xavier"}, "fine has no arm 'xavier'"),
        ({"run": "pre", "weights": "float8"}, "weights"),
    ]  # fmt: skip
    for given, said in cases:
        with pytest.raises(InputError, match=said) as caught:
            write_dream(**given, output=tmp_path / "a.html")
        assert not str(caught.value).endswith(".")
    assert not (tmp_path / "a.html").exists()
    assert write_dream(wide, tmp_path / "a.html", image_shape="28x28").is_file()


def test_the_command_says_where_the_page_is_and_how_large(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.html"
    command(monkeypatch, "dream", folder / "pre", "--output", output, "--weights", "float16")
    assert re.fullmatch(rf"The page is in {re.escape(str(output))} \(\d+ kB\)\.\n", capsys.readouterr().out)
    assert any("as float16, rounded from float32" in each for each in Reader(output).inside["p"])
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, "dream", folder / "pre", "--image-shape", "5x5")
    assert stop.value.code == 2
    assert "--image-shape 5x5 has 25 values" in capsys.readouterr().err
