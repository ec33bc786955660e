"""The documentation site: what it makes of the sources, and that it builds without a warning."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from documents import PAGES, ROOT, name_of, text_of

from dbn.cli.commands import COMMANDS
from dbn.cli.options import options_of

DOCS = ROOT / "docs"
NEEDED = ("sphinx", "furo", "myst_parser", "sphinx_copybutton")


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    for name in NEEDED:
        pytest.importorskip(name, reason="pip install 'torch-dbn[docs]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        import site_pages
    return site_pages


def test_every_page_is_in_the_contents() -> None:
    listed = re.findall(
        r"^```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)^```", text_of(DOCS / "index.md"), re.DOTALL | re.MULTILINE
    )
    entries = "\n".join(listed).split()
    for path in PAGES:
        name = path.relative_to(DOCS).with_suffix("").as_posix()
        assert name == "index" or name in entries or ("*/*" in entries and "/" in name), name


def test_the_options_of_every_command_are_shown(pages: ModuleType) -> None:
    text = text_of(DOCS / "options.md")
    assert {verb for kind, verb, _ in pages.MARK.findall(text) if kind == "options"} == {*COMMANDS} - {
        "recipes",
        "completion",
    }
    for verb in ("pretrain", "report"):
        shown = pages.options_of_command(verb)
        names = options_of(COMMANDS[verb].config)
        assert all(f"`--{name}`" in shown or f"`{name.upper()}`" in shown for name in names)
    assert "| `--gibbs-steps` int or schedule … |" in pages.options_of_command("pretrain")
    assert r"Names: `cd`, `pcd`" in pages.options_of_command("pretrain")


def test_the_public_names_of_a_module_are_shown(pages: ModuleType) -> None:
    shown = pages.names_of_module("dbn.likelihood")
    assert ".. autofunction:: dbn.likelihood.ais\n" in shown
    assert ".. autoclass:: dbn.likelihood.LogZ\n   :members:" in shown


def test_prose_becomes_fields(pages: ModuleType) -> None:
    prose = (
        "The sum.\n\n    log Z = log Σ_x exp(−F(x))\n\nx, y: rows (N, V)\n"
        "and `labels`_. seed: any, of _x or a*b|. InputError for none. Neal (2001).\n\n>>> 1 + 1\n2\n\n"
        "Raises:\n    InputError: for rows\n        that are empty.\n"
    )
    assert pages.as_fields(prose, {"x", "y", "seed"}) == (
        "The sum.\n\n::\n\n    log Z = log Σ_x exp(−F(x))\n\nNeal (2001).\n\n"
        ":param x,y: rows (N, V) and ``labels``_.\n:param seed: any, of _x or a\\*b\\|.\n"
        ":raises InputError: for none.\n:raises InputError: for rows that are empty.\n\n>>> 1 + 1\n2\n"
    )


def test_marks_and_links_of_a_page_are_filled_in(pages: ModuleType) -> None:
    app = SimpleNamespace(config=SimpleNamespace(html_theme_options={"source_repository": "https://host/dbn"}))
    links = "[a](../CONTRIBUTING.md#x) [b](../../dbn/data/NOTICE) [c](../data.md) [../data.md](../data.md#x)"
    source = [f"{links}\n\n<!-- options: report -->\n"]
    pages.expand(app, "page", source)
    links, table = source[0].split("\n\n", 1)
    assert links == (
        "[a](https://host/dbn/blob/main/CONTRIBUTING.md#x) [b](https://host/dbn/blob/main/dbn/data/NOTICE) "
        "[c](../data.md) [](../data.md#x)"
    )
    assert "| `--output` path |" in table


def test_a_notebook_is_a_page(pages: ModuleType) -> None:
    text = '{"cells": [{"cell_type": "markdown", "source": ["# A\\n", "b"]}, {"cell_type": "code", "source": "1"}]}'
    assert pages.notebook_as_markdown(text) == "# A\nb\n\n```python\n1\n```"


@pytest.mark.slow
@pytest.mark.usefixtures("pages")
def test_the_site_builds_without_a_warning_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", tmp_path / "doctrees"]
    done = subprocess.run([*command, DOCS, tmp_path / "html"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for page in PAGES:
        file = (tmp_path / "html" / page.relative_to(DOCS)).with_suffix(".html")
        html = file.read_text(encoding="utf-8")
        assert "dbn" in html
        for link in re.findall(r'(?:href|src)="([^"#?:]+)[#?"]', html):
            assert (file.parent / link).exists(), f"{name_of(page)}: {link}"
        assert not re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="https?://', html)
