"""Errors that the user can correct, and the wording that they share."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from numbers import Integral
from typing import Any, TypeVar, cast, get_args, get_type_hints

Function = TypeVar("Function", bound=Callable[..., Any])


class InputError(ValueError):
    """Something given to dbn cannot be used: data, an option, a file.

    The message is one sentence that says what was wrong, where, and what to do. Scripts print it and exit
    with status 2. Options are called as on the command line, --batch-size.
    """


class MissingValue(InputError):
    """Data without a value where one is needed."""


@contextmanager
def offering_missing() -> Iterator[None]:
    """`MissingValue` within says that there is an option; also a decorator."""
    try:
        yield
    except MissingValue as error:
        error.args = (f"{error}, or say --missing gibbs to learn from rows with holes",)
        raise


OPTION = re.compile(
    r"(?<![\w-])--([a-z]+(?:-[a-z0-9]+)*)"
    r"(?: (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
    r"|auto|gibbs|cpu|cuda(?::\d+)?|bernoulli|gaussian|spin|d?relu|(?:binomial|categorical)\(\w+=\d+\)|threshold"
    r"|sample|fixed|tf32|bf16|max|regress|multilabel)(?!\w)"
    r"(?! \d))?"  # not the first of several
)
"""An option, and its value where that is a number or a word that is nothing else in a sentence."""
SWITCHES = ("resume", "overwrite", "exact", "tied", "centered", "refit")


@contextmanager
def naming_arguments() -> Iterator[None]:
    """InputErrors within name options as Python does, learning_rate=0.1 for --learning-rate 0.1; also a decorator."""

    def argument(option: re.Match[str]) -> str:
        name, value = option[1].replace("-", "_"), option[2]
        if name.startswith("no_"):
            return f"{name.removeprefix('no_')}=False"
        if value is None:
            return f"{name}=True" if name in SWITCHES else name
        return f"{name}={repr(value) if value[0].isalpha() else value}"

    try:
        yield
    except InputError as error:
        error.args = (OPTION.sub(argument, str(error)),)
        raise


def check_types(function: Function) -> Function:
    """A decorator: InputError for an argument that is not of the class, or one of the classes, of its annotation.

    Annotations with brackets are left out, as are floats, which many types stand for.
    """
    signature, place = inspect.signature(function), function.__qualname__.removesuffix(".__init__")
    hints = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(function).items()}
    checks = {
        name: tuple(Integral if kind is int else kind for kind in kinds)
        for name, kinds in hints.items()
        if all(isinstance(kind, type) and kind not in (float, Any) for kind in kinds)
    }

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in checks and not isinstance(value, checks[name]):
                wanted = " or ".join(kind.__name__ for kind in hints[name])
                advice = ": use torch.as_tensor" if wanted == "Tensor" else ""
                raise InputError(f"{place}: {name} must be of type {wanted}, not {type(value).__name__}{advice}")
        return function(*args, **kwargs)

    return cast(Function, checked)


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
