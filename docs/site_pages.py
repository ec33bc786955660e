"""A Sphinx extension: pages from the sources, fields from prose, notebooks, and links that leave the folder.

Where a page says `<!-- options: pretrain -->` or `<!-- api: dbn.models -->`, the site shows the options of the command,
or the public names of the module with their docstrings. On other sites the marks are invisible.
"""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from myst_parser.sphinx_ import Parser

from dbn.cli.commands import COMMANDS
from dbn.cli.help import METAVARS, field_docs
from dbn.cli.options import Option, own_options, parts_of

MARK = re.compile(r"^<!-- (options|api): ([\w.-]+)((?: [\w.]+)*) -->$", re.MULTILINE)
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:[A-Z]+\.md|CITATION\.cff|LICENSE|dbn/|scripts/|tests/)[^)\s]*)\)")
BY_FILE = re.compile(r"\[[\w./-]+\.md\]\(([\w./-]+\.md(?:#[\w-]+)?)\)")
"""A link with the name of a file as its text, which on the site is the title of the page."""

OPTION = re.compile(r"(?<![\w`-])--[a-z][\w-]*(?=[^`]*(?:`[^`]*`[^`]*)*$)")
"""An option outside of backticks."""


def setup(app: Any) -> dict[str, bool]:
    """Connect what is below with Sphinx."""
    app.connect("source-read", expand)
    app.connect("autodoc-process-docstring", docstring_as_fields)
    app.connect("autodoc-process-signature", with_short_types)
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True}


def expand(app: Any, name: str, source: list[str]) -> None:
    """Fill in the marks of a page, point links to files beside docs/ to the repository, and name pages by titles."""
    made = {"options": options_of_command, "api": names_of_module}
    source[0] = MARK.sub(lambda m: made[m[1]](m[2], m[3].split()), source[0])
    base = app.config.html_theme_options["source_repository"]
    source[0] = OUTSIDE.sub(lambda m: f"]({base}/blob/main/{m[1]})", source[0])
    source[0] = BY_FILE.sub(r"[](\1)", source[0])


def options_of_command(verb: str, _: Sequence[str] = ()) -> str:
    """Markdown: the options of a command, a table for each group."""
    command = COMMANDS[verb]
    lines = [" ".join(command.description.split()), ""]
    for title, config in [("", command.config), *(_parts(command.config))]:
        lines += [f"*{title}*", ""] if title else []
        lines += ["| option | what it is |", "|---|---|"]
        docs = field_docs(config)
        lines += [
            f"| {_written(name, option)} | {_cell(docs[name.replace('-', '_')], option)} |"
            for name, option in own_options(config).items()
        ]
        lines.append("")
    return "\n".join(lines)


def _parts(config: type) -> Iterator[tuple[str, type]]:
    for part in parts_of(config).values():
        yield str(part.__doc__).partition("\n")[0].rstrip("."), part
        yield from _parts(part)


def _written(name: str, option: Option) -> str:
    shown = f"`{name.upper()}`" if option.is_positional else f"`--{name}`"
    if option.kind is bool:
        return f"{shown}, `--no-{name}`"
    several = " …" if option.most > 1 else ""
    kinds = dict.fromkeys(METAVARS[kind].lower() for kind in option.kinds if isinstance(kind, type))
    if len(kinds) > 1 and "name" in kinds:
        kinds["schedule"] = kinds.pop("name")
    return f"{shown} {' or '.join(kinds)}{several}".strip()


def _cell(text: str, option: Option) -> str:
    names = ""
    if option.choice:
        names = f" Names: {', '.join(f'`{each}`' for each in option.choice.names)}."
    elif listed := [each for kind in option.kinds for each in getattr(kind, "__args__", ())]:
        names = f" Values: {', '.join(f'`{each}`' for each in listed)}."
    default = "" if option.required or "(default:" in text or option.default in (None, (), False) else option.default
    if default != "":
        values = default if isinstance(default, tuple) else (default,)
        names += f" Default: `{' '.join(map(str, values))}`."
    text = OPTION.sub(r"`\g<0>`", text if text.endswith(".") else f"{text}.")
    return (text.replace("<", "&lt;").replace("*", r"\*") + names).replace("|", r"\|")


def names_of_module(module: str, names: Sequence[str] = ()) -> str:
    """Markdown: autodoc's directives for the public names of a module, or for those that are given."""
    found = importlib.import_module(module)
    lines = []
    for name in names or [each for each in found.__all__ if not inspect.ismodule(getattr(found, each))]:
        entry = getattr(found, name)
        kind = "class" if inspect.isclass(entry) else "function" if callable(entry) else "data"
        options = ["   :members:", "   :show-inheritance:"] if kind == "class" else []
        options += ["   :no-value:"] if kind == "data" else []
        lines += [f".. auto{kind}:: {module}.{name}", *options, ""]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def docstring_as_fields(app: Any, what: str, name: str, entry: Any, options: Any, lines: list[str]) -> None:
    """A docstring in plain prose as reStructuredText: parameters and errors as fields, equations as they stand."""
    lines[:] = as_fields("\n".join(lines), parameters_of(entry)).splitlines()


ARRAY = re.compile(
    r"~?(?:torch\.)?Tensor \| ~?(?:numpy\.)?ndarray\[.*?\]\] \| ~?(?:[\w.]+\.)?LazyRows \| ~?(?:typing\.)?Any"
)


def with_short_types(
    app: Any, what: str, name: str, entry: Any, options: Any, arguments: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """A signature with the name `Array` for all that is taken for rows."""
    return (arguments and ARRAY.sub("Array", arguments)), result


def parameters_of(entry: Any) -> set[str]:
    """The names of the arguments, with those of a TypedDict of options."""
    try:
        parameters = inspect.signature(entry).parameters.values()
    except (TypeError, ValueError):
        return set()
    unpacked = (getattr(each.annotation, "__args__", ()) for each in parameters)
    keys = {key for kinds in unpacked for kind in kinds for key in getattr(kind, "__annotations__", ())}
    return {each.name for each in parameters} | keys


def as_fields(text: str, known: Iterable[str]) -> str:
    """The text with `name: what it is` of the known names as fields, InputErrors of such paragraphs too.

    >>> print(as_fields("Rows.\\n\\nx: (N, V). y: labels. InputError for none.", {"x", "y"}))
    Rows.
    <BLANKLINE>
    :param x: (N, V).
    :param y: labels.
    :raises InputError: for none.
    """
    names = "|".join(sorted(map(re.escape, known), key=len, reverse=True)) or "(?!)"
    start = re.compile(rf"(?:^|(?<=[.;] ))((?:{names})(?:, (?:{names}))*): ", re.MULTILINE)
    prose, fields, examples = [], [], []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if paragraph.startswith(">>>"):
            examples.append(paragraph)
        elif paragraph.startswith("Raises:"):
            fields += re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", paragraph, re.MULTILINE)
        elif paragraph.startswith(" "):
            prose.append(f"::\n\n{paragraph}")
        elif start.match(paragraph):
            rest, more = _fields_of(paragraph, start)
            fields += more
            prose += [rest] if rest else []
        else:
            prose.append(_escaped(paragraph))
    written = [f":{_role(name)}: {_escaped(' '.join(said.split()))}" for name, said in fields]
    return "\n\n".join([*prose, *(["\n".join(written)] if written else []), *examples]) + "\n"


ERROR = re.compile(
    r"(?<=[.;] )(?:Raises )?(InputError) ((?:for|unless|if|where|naming)\b.*?\.(?= [A-Z`]|$))", re.DOTALL
)


def _fields_of(paragraph: str, start: re.Pattern[str]) -> tuple[str, list[tuple[str, str]]]:
    """What a paragraph says of no parameter, and its fields."""
    _, *pieces = start.split(paragraph)
    fields = [
        (f"param {names.replace(', ', ',')}", said.strip())
        for names, said in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    name, last = fields.pop()
    error = ERROR.search(last := " ".join(last.split()))
    if error is None:
        return "", [*fields, (name, last)]
    said, rest = last[: error.start()].strip(), last[error.end() :].strip()
    return _escaped(rest), [*fields, (name, said), (error[1], error[2])]


def _role(name: str) -> str:
    return name if name.startswith("param ") else f"raises {name}"


def _escaped(text: str) -> str:
    """Prose in which nothing is markup but code between backticks and the bullets of lists."""
    parts = re.split(r"`+([^`]+)`+", OPTION.sub(r"`\g<0>`", text))
    parts[::2] = [re.sub(r"(?<=\w)_(?!\w)|(?<!^)\*(?! )|(?<=\S)\*|\|", r"\\\g<0>", each) for each in parts[::2]]
    for place in range(1, len(parts), 2):
        glued = parts[place + 1][:1].isalnum()
        parts[place] = f"``{parts[place]}``" + r"\ " * glued
    return "".join(parts)


class NotebookParser(Parser):
    """Notebooks without their outputs, by MyST."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Parse the cells as Markdown."""
        super().parse(notebook_as_markdown(inputstring), document)


def notebook_as_markdown(text: str) -> str:
    """The cells, code in fences."""
    import json

    cells = json.loads(text)["cells"]
    sources = [("".join(each["source"]), each["cell_type"] == "code") for each in cells]
    return "\n\n".join(f"```python\n{source}\n```" if is_code else source for source, is_code in sources)
