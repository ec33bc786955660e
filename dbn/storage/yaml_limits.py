"""YAML as configurations are written: short, with few brackets. PyYAML takes minutes over a page of them."""

CHARACTERS, BRACKETS = 20_000, 500


def check_plain(text: str) -> None:
    """ValueError for what no configuration needs."""
    if len(text) > CHARACTERS:
        raise ValueError(f"it has more than {CHARACTERS:,} characters")
    if text.count("[") + text.count("{") > BRACKETS:
        raise ValueError("it nests values too deep")
