"""The documents resolve their links, name what exists, and speak of the project alone."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from documents import DOCUMENTS, ROOT, name_of, text_of
from test_imports import PACKAGES

import dbn

HOSTS = {"pytorch.org", "keepachangelog.com", "semver.org"}
"""Web sites that may be named."""
FOREIGN = re.compile(
    r"\bshared/|/work\b|/tmp\b|/root\b|/home/|\bissues?\b|\bhelpers?\b|\bworktree|pypi\.org|pythonhosted", re.I
)
"""Paths of a machine, words of a workplace, hosts of package registries."""
DIALECT = re.compile(
    r"\banew\b|\bgo(es)? on with\b|\bcomes? to\b|\bcame to\b|\ba seed each\b|\bstands? for\b|\bbegun\b|\blearnt\b|"
    r"\bwhoever\b|\bturned round\b|\btells? of\b|initialis|optimis|binaris|normalis|standardis|labelled|colour|"
    r"centred\b(?!`)",
    re.IGNORECASE,
)
OLD = {"dbn.rbm", "dbn.ranks.together"}
"""Earlier names in the changelog."""
GLOBBED = ("how-to", "notebooks")
"""Folders of docs/ whose pages the contents of the site list by themselves."""
PLAIN = [path for path in DOCUMENTS if path.name != "SECURITY.md"]


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_documents_are_there() -> None:
    names = {name_of(path) for path in DOCUMENTS}
    assert names >= {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"}
    of_docs = "architecture claims comparisons data large-data likelihood python results runs scaling speed"
    assert names >= {f"docs/{name}.md" for name in of_docs.split()}


def test_the_readme_is_short_and_leads_to_every_document() -> None:
    text = text_of(ROOT / "README.md")
    assert len(text.splitlines()) <= 150
    led_to = set(re.findall(r"\]\(([\w./-]+)\)", text))
    assert "docs/index.md" in led_to
    led_to |= {f"docs/{link}" for link in re.findall(r"\]\(([\w./-]+)\)", text_of(ROOT / "docs" / "index.md"))}
    pages = {name_of(path) for path in DOCUMENTS if path.parent.name not in GLOBBED} - {"README.md"}
    assert pages <= led_to


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_a_document_speaks_of_the_project_alone(path: Path) -> None:
    text = text_of(path)
    assert not FOREIGN.search(text)
    assert set(re.findall(r"https?://([\w.-]+)", text)) <= HOSTS


@pytest.mark.parametrize("path", PLAIN, ids=name_of)
def test_a_document_is_in_plain_words(path: Path) -> None:
    found = [match.group() for match in DIALECT.finditer(text_of(path))]
    assert not found


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_and_modules_that_are_named_exist(path: Path) -> None:
    text = text_of(path)
    for file in re.findall(r"`((?:dbn|scripts|tests|docs)/[\w/.-]+\.\w+)[`:]", text):
        assert (ROOT / file).exists(), file
    modules = {name for name in re.findall(r"`(dbn(?:\.\w+)+)", text) if not name.endswith(".safetensors")}
    for module in modules - OLD:
        assert named(module), module


def named(dotted: str) -> bool:
    """Whether it is a module, or what one holds."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_architecture_names_what_exists() -> None:
    """Every name in the two walks is defined somewhere in the package."""
    text = text_of(ROOT / "docs" / "architecture.md")
    walks = text[text.index("## The walk of an example") : text.index("## Tables by name")]
    source = "\n".join(text_of(path) for path in (ROOT / "dbn").rglob("*.py"))
    names = {word for code in re.findall("`([A-Za-z_.]+)(?:\\([^`]*)?`", walks) for word in code.split(".")}
    names -= {"dbn", "py", "npz", "jsonl", "json", "metrics", "result", "grad", "study", "NAME"}
    assert len(names) > 35
    for name in names:
        assert re.search(rf"\b(def|class) {name}\b|^\s*{name}\b.* = |\b{name}: ", source, re.MULTILINE), name


def test_the_rows_of_the_architecture_are_those_of_the_imports() -> None:
    text = text_of(ROOT / "docs" / "architecture.md")
    rows = {
        name: row for name, row in re.findall(r"^\| `(\w+)` \| .* \| (.*?) \|$", text, re.MULTILINE) if name in PACKAGES
    }
    assert set(rows) == set(PACKAGES)
    for name, row in rows.items():
        if name != "cli":
            written = set() if row == "–" else set(row.split(", "))
            assert written == set(PACKAGES[name].split()), name


def test_the_citation_is_valid() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (dbn.__version__, "MIT")
    assert citation["authors"] == [{"name": "dbn contributors"}]
