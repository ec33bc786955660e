"""YAML as configurations are written: short, with few brackets, without aliases.

PyYAML takes minutes over a page of brackets, and a few aliases can stand for text without end.
"""

import yaml

CHARACTERS, BRACKETS = 20_000, 500


def check_plain(text: str) -> None:
    """ValueError for what no configuration needs, and YAMLError or RecursionError where it is no YAML."""
    if len(text) > CHARACTERS:
        raise ValueError(f"it has more than {CHARACTERS:,} characters")
    if text.count("[") + text.count("{") > BRACKETS:
        raise ValueError("it nests values too deep")
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise ValueError("it has aliases")
