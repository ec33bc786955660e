"""List the recipes: configuration files that --config finds by name."""

import re
from dataclasses import dataclass, field

from dbn.cli.commands import Command
from dbn.cli.config_files import RECIPES, recipe_names
from dbn.config.common import Options
from dbn.errors import InputError
from dbn.registry import suggestion


@dataclass(frozen=True, kw_only=True)
class RecipesConfig(Options):
    """Options of recipes."""

    name: str | None = field(default=None, metadata={"positional": True})
    """Print this recipe, to be saved and edited (default: list all)."""


def main(config: RecipesConfig) -> None:
    """Print one line per recipe: name, command, first comment line; or the file of one."""
    names = recipe_names()
    if config.name is not None and config.name not in names:
        raise InputError(f"there is no recipe {config.name!r}{suggestion(config.name, names)}")
    texts = {name: (RECIPES / f"{name}.yaml").read_text(encoding="utf-8") for name in names}
    if config.name is not None:
        print(texts[config.name], end="")
        return
    width = max(map(len, names))
    for name, text in texts.items():
        (command,) = re.findall(r"^# torch-dbn ([\w-]+) --config", text, re.MULTILINE)
        print(f"{name:{width}}  {command:11}  {text.partition(chr(10))[0].removeprefix('# ')}")
    print("\nRun one with torch-dbn COMMAND --config NAME; options on the command line win over the recipe's.")


COMMAND = Command(main, RecipesConfig, __doc__)
