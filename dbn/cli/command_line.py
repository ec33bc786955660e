"""From a command line and a YAML file to a configuration, and from a configuration to YAML.

Options are gathered by name, flags over the file; tyro then converts their values and prints the help. Whatever
is wrong ends in one line on standard error and status 2.
"""

import contextlib
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import yaml

from dbn.cli.options import Given, Option, options_of, read_config_file, read_tokens
from dbn.config.common import to_dict
from dbn.config.validation import option_name
from dbn.errors import OUT_OF_MEMORY, InputError, is_out_of_memory
from dbn.interrupts import Stopped, raise_stopped

Config = TypeVar("Config")


COLOR = re.compile(r"\x1b\[[\d;]*m")  # tyro colours its boxes on a terminal


LOWER = ("batch_size", "chains", "temperatures", "hidden", "workers", "count")
"""Options of which more takes more memory."""


FRAME = re.compile(r"[│╭╮╰╯─|]")


def run_script(
    main: Callable[[Config], None], config_class: type[Config], description: str, *, several: bool = False
) -> None:
    """Read the command line and call `main`; what the user can put right ends in one line and status 2.

    Ctrl-C ends in one line and status 130, SIGTERM in 143; training first finishes its step and writes a checkpoint.

    several: whether torchrun may start more than one process of this script.
    """
    _open_what_is_closed()
    logging.basicConfig(format=f"{_program()}: warning: %(message)s")
    before = signal.signal(signal.SIGTERM, raise_stopped)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that knows no ± must not end the work
        sys.stdout.reconfigure(errors="backslashreplace")
    config: Config | None = None
    try:
        from tqdm.contrib.logging import logging_redirect_tqdm  # here, where Ctrl-C ends in one line

        config = parse(config_class, description=description)
        if not several and _of_several():
            raise InputError("this script runs in one process: start it without torchrun")
        with logging_redirect_tqdm():  # a warning goes above a progress bar, not through it
            main(config)
        sys.stdout.flush()
    except InputError as error:
        _refuse(error)
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        _leave(f"interrupted{_how_to_go_on(config)}", 128 + number)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _leave(f"error: {OUT_OF_MEMORY.format(_what_to_lower(config))}", 2)
    except BrokenPipeError:  # the pipe's reader is gone, and Python must not flush into it at exit
        _forget_output()
        sys.exit(1)
    except OSError as error:  # what nobody expected of the disk; without a name it is what is printed to
        if error.filename is None:
            _forget_output()
        what = error.filename or "standard output"
        _leave(f"error: {what} cannot be used ({error.strerror or error}): see to it, and try again", 2)
    finally:
        signal.signal(signal.SIGTERM, before)


def _open_what_is_closed() -> None:
    """Behind >&- and the like there is no stream, and the next file that is opened would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _forget_output() -> None:
    """What is still to be printed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _how_to_go_on(config: Any) -> str:
    """With what options, where there is something to go on with."""
    if not hasattr(config, "resume") or not (config.run / "config.yaml").is_file():
        return ""
    return f": go on with --resume --run {config.run}"


def _what_to_lower(config: Any) -> str:
    """The options of which less takes less memory, with their values."""
    parts = [config, getattr(config, "training", None)]
    held = {name: getattr(part, name) for part in parts for name in LOWER if getattr(part, name, None)}
    options = [f"{option_name(name)} (now {_written(value)})" for name, value in held.items()]
    return f": lower {' or '.join(options)}" if options else ""


def _written(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def parse(config_class: type[Config], argv: Sequence[str] | None = None, *, description: str) -> Config:
    """The configuration that the command line asks for.

    Raises `SystemExit`: status 0 after `--help`, 2 after one line on standard error that names the option.
    """
    tokens = sys.argv[1:] if argv is None else argv
    options = options_of(config_class)
    try:
        if {"-h", "--help"}.intersection(tokens):
            return _convert(config_class, {"help": ["--help"]}, options, description)
        given = read_tokens(tokens, options | {"config": Option(Path)})
        file = given.pop("config", None)
        if file:
            given = read_config_file(Path(file[1]), options) | given
        elif given.get("resume") == ["--resume"]:
            given = _begun_with(config_class, given, options) | given
        for name, option in options.items():
            if option.required and name not in given:
                raise InputError(f"{option_name(name)} is required.")
        return _convert(config_class, given, options, description)
    except InputError as error:
        _refuse(error)


def _begun_with(config_class: type[Config], given: Given, options: dict[str, Option]) -> Given:
    """The options in the run folder that is to be gone on with, so that they need not be typed again."""
    default = next(each.default for each in fields(cast(Any, config_class)) if each.name == "run")
    file = Path(given["run"][1] if "run" in given else str(default)) / "config.yaml"
    if not file.is_file():
        return {}  # what is wrong with the folder is said where it is opened
    found = {name: tokens for name, tokens in read_config_file(file, options, named="").items() if name != "run"}
    try:
        _convert(config_class, found, options, "")
    except InputError as error:
        raise InputError(f"{file} is damaged: {error}") from error
    return found


def _convert(config_class: type[Config], given: Given, options: dict[str, Option], description: str) -> Config:
    """Let tyro convert the values, and show `--config` in its help."""
    import tyro  # here, where Ctrl-C ends in one line

    help_text = "A YAML file of options, named as here; flags win over it."
    file = Annotated[Path | None, tyro.conf.arg(help=help_text)]
    command = make_dataclass(
        config_class.__name__,
        [("config", file, field(default=None))],
        bases=(config_class,),
        frozen=True,
        kw_only=True,
    )
    boxes = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxes):
            made: Any = tyro.cli(
                command,
                args=[token for tokens in given.values() for token in _joined(tokens)],
                prog=_program(),
                description=description,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
            )
    except SystemExit as stop:
        if stop.code == 0:
            raise
        raise _explanation(stop, boxes.getvalue(), given, options) from stop
    return config_class(**{each.name: getattr(made, each.name) for each in fields(config_class)})  # type: ignore[arg-type]


def _joined(tokens: list[str]) -> list[str]:
    """`--run=-x` for `--run -x`: a value after = is never taken for an option."""
    return ["=".join(tokens)] if len(tokens) == 2 else tokens


def _explanation(stop: SystemExit, boxes: str, given: Given, options: dict[str, Option]) -> InputError:
    """One sentence for a refusal of tyro's, which it explains in boxes of several lines.

    Where one of our own checks refused, tyro was stopped by its error; else the boxes name the option.
    """
    cause: BaseException | None = stop
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        cause = cause.__context__
    text = " ".join(FRAME.sub(" ", COLOR.sub("", boxes)).split())
    found = re.search(r"(?:Error parsing |argument ')--([\w-]+)", text)
    if not found or found[1] not in given:
        return InputError(text)
    name = found[1]
    return InputError(f"--{name} must be {options[name].expected}, not {' '.join(given[name][1:])!r}.")


def to_yaml(config: Any) -> str:
    """`to_dict` as YAML, which `--config` reads again."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, default_flow_style=None, allow_unicode=True)


def _program() -> str:
    return Path(sys.argv[0]).name


def _of_several() -> bool:
    """Whether torchrun has started other processes of this script."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ


def _speaks(error: InputError | None) -> bool:
    """Of several processes one says why they all end."""
    if not _of_several():
        return True
    from dbn.training.distributed import speaks  # torch is imported by what comes to that alone

    return speaks(error)


def _refuse(error: InputError) -> NoReturn:
    _leave(f"error: {error}", 2, error)


def _leave(sentence: str, status: int, error: InputError | None = None) -> NoReturn:
    line = "".join(each if each.isprintable() else "�" for each in " ".join(sentence.split()))  # files may hold any
    if _speaks(error):
        print(f"{_program()}: {line}", file=sys.stderr, flush=True)
    if _of_several():
        # At once: as Python ends, torch's threads may abort a process that has lost another, with a status of theirs.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)
