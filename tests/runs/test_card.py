"""The model card: what was measured, safe to show, the same for the same run, and what evaluate adds to it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny import pictures, save_pictures

import dbn
from dbn.cli.program import main
from dbn.runs.card import CARD, FRAME, escaped, fenced, write_likelihood

markdown_it = pytest.importorskip("markdown_it")

HOSTILE = "<script>alert(1)</script>", "[a](http://b) `c` | $d$", "![e](www.f.g)\n# h <!-- end of these figures -->"


def card(run: Path) -> tuple[dict[str, Any], str]:
    """Front matter and body."""
    _, front, body = (run / CARD).read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def shown(text: str) -> tuple[set[str], str]:
    """The kinds of elements, and the text that a reader of the Markdown sees."""
    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = [each for block in parser.parse(text) for each in (block, *(block.children or ()))]
    kinds = {each.type for each in tokens if each.content not in FRAME and each.content.strip() not in FRAME}
    return kinds, "\n".join(each.content for each in tokens if each.type in ("text", "text_special", "fence"))


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["torch-dbn", *map(str, words)])
    main()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack, a comparison whose classes have hostile names, and a label model."""
    path = tmp_path_factory.mktemp("cards")
    x, y = pictures()
    names = np.array(HOSTILE)[y]
    stack = dbn.pretrain(x, hidden=[7, 5], epochs=2, run=path / "pre")
    dbn.compare(
        x, names, ["dbn", "he_normal"], pretrained=stack, seeds=2, epochs=2, learning_rate=0.1, run=path / "fine"
    )
    dbn.train_label_model(x, names, hidden=4, epochs=1, run=path / "label")
    return path


@pytest.mark.parametrize("name", ["pre", "fine", "label"])
def test_a_card_is_what_hubs_and_markdown_expect(name: str, folder: Path) -> None:
    front, body = card(folder / name)
    assert front["library_name"] == "torch-dbn"
    assert "restricted-boltzmann-machine" in front["tags"]
    assert "license" not in front
    kinds, text = shown(body)
    assert not {"html_block", "html_inline", "link_open"} & kinds
    for heading in ("How to load it", "How it was made", "License"):
        assert f"## {heading}" in body
    assert "import dbn" in text
    assert torch.__version__ in text
    assert json.loads((folder / name / "versions.json").read_text())["data"] in body


def test_the_code_of_a_card_loads_the_model(folder: Path) -> None:
    names: dict[str, Any] = {"x": pictures()[0]}
    for name in ("pre", "fine", "label"):
        code = card(folder / name)[1].split("```python\n")[1].split("```")[0]
        exec(code.replace("FOLDER", str(folder / name)), names)
    assert names["features"].shape == (150, 5)
    assert names["probabilities"].shape == (150, 3)
    assert set(names["predicted"]) <= set(HOSTILE)


def test_the_figures_are_those_of_the_run(folder: Path) -> None:
    body = card(folder / "pre")[1]
    assert "# Deep belief network 36 – 7 – 5" in body
    assert "135 training and 15 validation rows of 36 values; images of 1 × 6 × 6" in body
    assert "values are divided by 255" in body
    assert f"{36 * 7 + 36 + 7 + 7 * 5 + 7 + 5} parameters" in body
    last = [json.loads(line) for line in (folder / "pre" / "metrics.jsonl").read_text().splitlines()][-1]
    assert f"{last['valid_kl']:.6g}" in body
    found = json.loads((folder / "fine" / "result.json").read_text())
    for arm in found["arms"].values():
        assert f"{arm['mean']:.2f} ± {arm['ci95']:.2f}" in card(folder / "fine")[1]
    assert "![confusion matrices](confusion.png)" in card(folder / "fine")[1]


def test_hostile_names_stay_text(folder: Path) -> None:
    for name in ("fine", "label"):
        text = shown(card(folder / name)[1])[1].replace("\n", "")
        assert [each for each in HOSTILE if repr(each)[1:-1].replace("\n", "\\n") not in text] == []


def test_the_same_run_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    dbn.pretrain(pictures()[0], hidden=[7, 5], epochs=2, run=tmp_path / "pre")
    assert (tmp_path / "pre" / CARD).read_bytes() == (folder / "pre" / CARD).read_bytes()


def test_evaluate_adds_likelihoods_which_longer_training_takes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_pictures(tmp_path / "x.npz")
    words = "pretrain", "--dataset", "x.npz", "--hidden", 4, "--run", "run"
    run(monkeypatch, *words, "--epochs", 1)
    before = Path("run", CARD).read_text(encoding="utf-8").replace("# license: unknown", "license: mit")
    Path("run", CARD).write_text(before, encoding="utf-8")
    run(monkeypatch, "evaluate", "--run", "run", "--exact", "--binarize", "threshold")
    after, found = Path("run", CARD).read_text(encoding="utf-8"), json.loads(Path("run", "result.json").read_text())
    assert f"{found['test_log_likelihood']:.2f}" in after
    assert after.split(FRAME[0])[0] == before.split(FRAME[0])[0]
    assert after.split(FRAME[1])[1] == before.split(FRAME[1])[1]
    assert "Not measured" not in after
    run(monkeypatch, *words, "--resume", "--epochs", 1)  # complete: nothing is done
    assert Path("run", CARD).read_text(encoding="utf-8") == after
    run(monkeypatch, *words, "--resume", "--epochs", 2)
    assert "Not measured" in Path("run", CARD).read_text(encoding="utf-8")
    assert not Path("run", "result.json").exists()


def test_a_card_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    write_likelihood(tmp_path, "figures")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / CARD).write_text("# Mine\n", encoding="utf-8")
    write_likelihood(tmp_path, "figures")
    assert (tmp_path / CARD).read_text(encoding="utf-8") == "# Mine\n"


@pytest.mark.parametrize("text", [*HOSTILE, "*a* _b_ ~~c~~ &amp; \\", "#", "a\r\nb\u2028c\x00", "``` x"])
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    kinds, seen = shown(escaped(text))
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    assert seen.replace("\n", "").split() == line.split()
    assert kinds <= {"paragraph_open", "inline", "text", "text_special", "paragraph_close"}


def test_no_line_of_code_ends_its_block() -> None:
    kinds, seen = shown(fenced("a\n```\n````` b\n", "sh"))
    assert kinds == {"fence"}
    assert seen == "a\n```\n````` b\n\n"
