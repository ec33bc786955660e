"""Running a command: options in, and whatever the user can fix out as one line on standard error and status 2."""

import contextlib
import logging
import os
import shlex
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dbn.cli.config_files import command_of, find_config, option_names, read_config_file, read_mapping
from dbn.cli.help import Formatter, add_options, usage
from dbn.cli.options import Given, Option, build, options_of, read_tokens
from dbn.cli.signals import put_signals_back, raise_stopped_from_now_on
from dbn.cli.streams import lasting_streams
from dbn.config import CONFIGS
from dbn.config.validation import option_name, values_of
from dbn.errors import OUT_OF_MEMORY, InputError, is_out_of_memory
from dbn.training.interrupts import Stopped

Config = TypeVar("Config")

LOWER = ("batch_size", "chains", "temperatures", "hidden", "workers", "count")
"""Options whose memory grows with their value."""


def run_script(
    main: Callable[[Config], None], config_class: type[Config], description: str, *, several: bool = False
) -> None:
    """Read the command line and call `main`; what the user can fix ends in one line and status 2.

    Ctrl-C ends in one line and status 130, SIGTERM in 143, a closed terminal (SIGHUP) in 129; training and AIS first
    finish their step and write a checkpoint. Work does not end when standard output does: files are written, then the
    status is 1 where the reader of a pipe is gone, and otherwise 2 after one line.

    several: whether torchrun may start more than one process of this command.
    """
    with lasting_streams() as output:
        config: Config | None = None
        try:
            try:
                raise_stopped_from_now_on()
                logging.addLevelName(logging.INFO, "note")
                logging.addLevelName(logging.WARNING, "warning")
                logging.basicConfig(format=f"{_program()}: %(levelname)s: %(message)s")
                logging.getLogger("dbn").setLevel(logging.INFO)
                from tqdm.contrib.logging import logging_redirect_tqdm  # here, where Ctrl-C ends in one line

                config = parse(config_class, description=description)
                if not several and _of_several():
                    raise InputError("this command runs in one process: start it without torchrun")
                with logging_redirect_tqdm():  # a warning goes above a progress bar, not through it
                    main(config)
                output.check()  # what could not be printed has not kept anything from being written
                put_signals_back()
                if _of_several():
                    _end(0)
            except InputError as error:
                refuse(error)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                _leave(f"error: {OUT_OF_MEMORY.format(_what_to_lower(config))}", 2)
            except BrokenPipeError:  # whoever read the pipe wanted no more
                _end(1)
            except OSError as error:  # an unexpected failure of the disk
                advice = "check it, and try again"
                if error is output.error:
                    error.filename, advice = "standard output", "what it was to show is lost, and files are whole"
                _leave(f"error: {error.filename} cannot be used ({error.strerror or error}): {advice}", 2)
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Stopped) else signal.SIGINT
            _leave(f"interrupted{_how_to_resume(config)}", 128 + number)
        finally:
            put_signals_back()


def _how_to_resume(config: Any) -> str:
    if not hasattr(config, "resume"):
        return ""
    if not hasattr(config, "overwrite"):  # its options are not in a folder
        return ": resume with the same options and --resume"
    if not (config.run / "config.yaml").is_file():
        return ""
    return f": resume with --resume --run {config.run}"


def _what_to_lower(config: Any) -> str:
    """The options of which less takes less memory, with their values."""
    parts = [part for part in (config, getattr(config, "training", None)) if part is not None]
    set_here = {name: values_of(part, name) for part in parts for name in LOWER if getattr(part, name, None)}
    options = [f"{option_name(name)} (now {' '.join(map(str, values))})" for name, values in set_here.items()]
    return f": lower {' or '.join(options)}" if options else ""


def parse(config_class: type[Config], argv: Sequence[str] | None = None, *, description: str) -> Config:
    """The configuration that the command line asks for.

    Raises `SystemExit`: status 0 after `--help`, 2 after one line on standard error that names the option.
    """
    tokens = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"}.intersection(tokens):
        parser = ArgumentParser(
            prog=_program(), description=description, usage=usage(config_class), formatter_class=Formatter
        )
        add_options(parser, config_class)
        parser.print_help()
        sys.exit(0)
    options = options_of(config_class)
    try:
        given = read_tokens(tokens, options | {"config": Option(Path)})
        file = given.pop("config", None)
        if file:
            given = read_config_file(find_config(Path(file[0])), options) | given
        if given.get("resume") == ["true"] and "overwrite" in options:
            given = _started_with(config_class, given, options) | given
        return build(config_class, given)
    except InputError as error:
        refuse(error)


def _started_with(config_class: type[Config], given: Given, options: dict[str, Option]) -> Given:
    """The options in the run folder to be resumed, so that they need not be typed again."""
    file = Path(given["run"][0] if "run" in given else options["run"].default) / "config.yaml"
    if not file.is_file():
        return {}  # what is wrong with the folder is said where it is opened
    other = command_of(option_names(read_mapping(file, str(file))))
    if other and CONFIGS[other] is not config_class:
        raise InputError(f"{file.parent} is a run of torch-dbn {other}: resume it with that command")
    found = {name: values for name, values in read_config_file(file, options, named="").items() if name != "run"}
    try:
        build(config_class, found)
    except InputError as error:
        raise InputError(f"{file} is damaged: {error}") from error
    return found


def _program() -> str:
    return Path(sys.argv[0]).name


def command_to_type(verb: str, *words: object) -> str:
    """Another command, started as this one was: by the program, or by a script of a checkout."""
    program, _, own_verb = sys.argv[0].partition(" ")
    start = [program, verb] if own_verb else ["python", str(Path(sys.argv[0]).with_name(f"{verb}.py"))]
    return shlex.join([*start, *map(str, words)])


def _of_several() -> bool:
    """Whether torchrun has started other processes of this command."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ


def _speaks(error: InputError | None) -> bool:
    """Of several processes one says why they all end."""
    if not _of_several():
        return True
    from dbn.training.distributed import speaks  # imports torch

    return speaks(error)


def refuse(error: InputError) -> NoReturn:
    """End with status 2 after one line on standard error."""
    _leave(f"error: {error}", 2, error)


def _leave(sentence: str, status: int, error: InputError | None = None) -> NoReturn:
    line = "".join(each if each.isprintable() else "�" for each in " ".join(sentence.split()))  # files may hold any
    if _speaks(error):
        with contextlib.suppress(OSError):
            print(f"{_program()}: {line}", file=sys.stderr, flush=True)
    _end(status)


def _end(status: int) -> NoReturn:
    """End the process; one of several at once: as Python ends, torch's threads may abort it, with a status of theirs.

    They do so in a process that has lost another ("terminate called without an active exception"), and now and then
    after success.
    """
    put_signals_back()
    if _of_several():
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)
