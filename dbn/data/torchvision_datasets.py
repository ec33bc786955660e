"""The named data sets, read and downloaded by torchvision.

What is found in the data folder is used as it is, without touching the network.
"""

import contextlib
import importlib
import io
import os
import queue
import re
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from dbn.data.splits import Splits, unsplit
from dbn.errors import InputError, parsing

PROBE_SECONDS = 4.0
STALL_SECONDS = 10.0
OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
"""Kept for the life of the process: what a library defines goes when it goes."""


@dataclass(frozen=True)
class Source:
    """Where torchvision keeps a data set, and from where it fetches it."""

    dataset: str  # the class in torchvision.datasets
    folder: str
    files: tuple[str, ...]
    archives: tuple[str, ...]  # what is downloaded, relative to the data folder; torchvision unpacks it
    addresses: Callable[[Any], list[str]]  # of the class: any one of them will do
    classes: tuple[str, ...]


def _idx(dataset: str, classes: tuple[str, ...]) -> Source:
    """A data set in the four files of MNIST's format."""
    files = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
    folder = f"{dataset}/raw"
    archives = tuple(f"{folder}/{file}.gz" for file in files)
    return Source(dataset, folder, files, archives, lambda known: list(known.mirrors), classes)


DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
USPS_FILES = ("usps.bz2", "usps.t.bz2")
CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
SOURCES = {
    "mnist": _idx("MNIST", DIGITS),
    "fashion-mnist": _idx("FashionMNIST", CLOTHES),
    "kmnist": _idx("KMNIST", KANA),
    "usps": Source(
        "USPS", "", USPS_FILES, USPS_FILES, lambda known: [first for first, *_ in known.split_list.values()], DIGITS
    ),
    # CIFAR-10 is published as pickles. torchvision reads them, after comparing each with the published checksum.
    "cifar10": Source(
        "CIFAR10",
        "cifar-10-batches-py",
        CIFAR10_FILES,
        ("cifar-10-python.tar.gz",),
        lambda known: [known.url],
        OBJECTS,
    ),
}


def load_named(name: str, data_dir: Path | None = None) -> Splits:
    """A data set of `SOURCES`, from `data_dir`, to which it is downloaded if it is not there.

    Raises:
        InputError: the files are missing and cannot be fetched (the sentence lists them), or are damaged.
    """
    source = SOURCES[name]
    root = data_folder(data_dir)
    folder = root / source.folder
    known = getattr(import_torchvision().datasets, source.dataset)
    if not all((folder / file).is_file() for file in source.files):
        _fetch(name, source, known, root)
    damaged = InputError(
        f"{name}: the files in {folder} are damaged or cannot be read, remove {', '.join(source.files)} "
        "to have them fetched again"
    )
    with parsing(damaged):  # torchvision asserts, indexes and unpacks: a damaged file ends in many types
        with _quiet():
            parts = [known(root, train=train, download=False) for train in (True, False)]
        (x, y), (x_test, y_test) = ((np.asarray(part.data), np.asarray(part.targets)) for part in parts)
        if x.ndim == 4:  # torchvision has the channels last
            x, x_test = x.transpose(0, 3, 1, 2), x_test.transpose(0, 3, 1, 2)
        splits = unsplit(name, x, y, x_test, y_test)
        return replace(splits, classes=tuple(source.classes[int(label)] for label in splits.classes))


def data_folder(data_dir: Path | None = None) -> Path:
    """Where data sets are kept: `data_dir`, else `$DBN_DATA`, else the user's cache folder."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(data_dir or os.environ.get("DBN_DATA") or Path(cache_home, "dbn")))


def _fetch(name: str, source: Source, known: Any, root: Path) -> None:
    """Download and unpack; archives that are there already are only unpacked.

    Without a network the name server alone can take long to give up, hence the probe.
    """
    try:
        if not all((root / archive).is_file() for archive in source.archives):
            _probe(source.addresses(known))
        with _quiet(), _stall_timeout():
            for train in (True, False):
                known(root, train=train, download=True)
    except Exception as error:  # URLError, OSError, a wrong checksum as RuntimeError, …
        raise InputError(
            f"{name} is not in {root} and could not be fetched ({' '.join(str(error).split())[:200]}): put "
            f"{', '.join(source.files)} into {root / source.folder}, or name another folder with --data-dir"
        ) from error


def _probe(addresses: list[str]) -> None:
    """Returns as soon as one server answers, with whatever; OSError if none does within seconds."""
    answers: queue.Queue[Exception | None] = queue.Queue()

    def ask(address: str) -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
            answers.put(None)
        except urllib.error.HTTPError as error:
            error.close()
            answers.put(None)
        except Exception as error:
            answers.put(error)

    deadline = time.monotonic() + PROBE_SECONDS
    for address in addresses:
        threading.Thread(target=ask, args=(address,), daemon=True).start()
    with contextlib.suppress(queue.Empty):
        for _ in addresses:
            if answers.get(timeout=max(0.0, deadline - time.monotonic())) is None:
                return
    raise OSError("no server of this data set answers, is there a network?")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torchvision's progress bars show on a terminal only, and nothing of it on standard output."""
    unseen = io.StringIO()
    errors = sys.stderr if sys.stderr.isatty() else unseen
    with contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(errors):
        yield


@contextlib.contextmanager
def _stall_timeout() -> Iterator[None]:
    """torchvision opens connections without a time limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled operators do not load beside the installed torch.

    Its data sets and image grids are plain Python, but its import asks for some of these operators: each is declared,
    without a kernel. PyPI's torchvision beside a CPU-only torch is such a pair.

    Raises:
        InputError: torchvision is missing, or does not match torch in another way.
    """
    for _ in range(20):
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                break
            OPERATORS.define(f"{missing[1]}() -> ()")
        except (ImportError, OSError, AttributeError):
            break
    raise InputError(
        f"torchvision is missing or does not match torch {torch.__version__}: install the two together, with "
        "`pip install --upgrade torch torchvision`"
    )
