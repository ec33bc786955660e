"""Errors that the user can correct, and the wording that they share."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something given to dbn cannot be used: data, an option, a file.

    The message is one sentence that says what was wrong, where, and what to do. Scripts print it and exit
    with status 2. Options are called as on the command line, --batch-size.
    """


OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z0-9]+)*)")


@contextmanager
def naming_arguments() -> Iterator[None]:
    """InputErrors within name options as Python does: batch_size for --batch-size, reverse=False for --no-reverse."""

    def argument(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        if name.startswith("no_"):
            return f"{name.removeprefix('no_')}=False"
        return f"{name}=True" if name in ("resume", "overwrite") else name

    try:
        yield
    except InputError as error:
        error.args = (OPTION.sub(argument, str(error)),)
        raise


@contextmanager
def parsing(refusal: InputError) -> Iterator[None]:
    """Within, any error but lack of memory becomes `refusal`: foreign bytes can fail a parser in any way."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise refusal from error


def listed(values: Iterable[str | float], most: int = 20) -> str:
    """Names, quoted, or numbers, with commas between them; of more than `most` the first, and how many are left out.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    words = [shortened(value) if isinstance(value, str) else f"{value:g}" for value in values]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def shortened(name: str) -> str:
    """A name, quoted, that may be of any length and hold any character."""
    return repr(name[:60])


OUT_OF_MEMORY = "there is not enough memory{}"
"""A sentence; what to lower goes into the braces."""

SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc")
"""In the messages of torch's errors, which are RuntimeErrors on some devices."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of Python's, numpy's or torch's, says that memory has run out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)
