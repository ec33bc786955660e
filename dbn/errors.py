"""The errors that the user can put right."""

import re
from collections.abc import Iterator
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
    try:
        yield
    except InputError as error:
        error.args = (OPTION.sub(_argument, str(error)),)
        raise


def _argument(option: re.Match[str]) -> str:
    name = option[1].replace("-", "_")
    if name.startswith("no_"):
        return f"{name.removeprefix('no_')}=False"
    return f"{name}=True" if name in ("resume", "overwrite") else name


OUT_OF_MEMORY = "there is not enough memory{}"
"""A sentence; what to lower goes into the braces."""


SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc")
"""What torch's errors say, which are RuntimeErrors on some devices."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of Python's, numpy's or torch's, says that memory has run out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)
