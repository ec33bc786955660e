"""Folders that this process alone may write to, and whether they are still in their places.

A folder is known by a file in it, its lock: by device and inode, which another folder of the same name does not have.
The file stays open as long as the folder is owned, so that no new file gets its number.
"""

import os
from pathlib import Path

from dbn.errors import InputError

Identity = tuple[int, int]
Owned = tuple[str, Identity]
"""The name of the file in the folder, and its device and inode."""

_owned: dict[Path, Owned] = {}
"""By absolute path, with links as they are."""


def own(folder: Path, name: str, identity: Identity) -> None:
    """From now on `check_owned` asks whether the file of that name in the folder is this one."""
    _owned[Path(os.path.abspath(folder))] = name, identity


def disown(folder: Path) -> None:
    """Ask no more."""
    _owned.pop(Path(os.path.abspath(folder)), None)


def identity_of(folder: Path) -> Owned | None:
    """What another process must be told to `own` the folder too; None for one that is not owned."""
    return _owned.get(Path(os.path.abspath(folder)))


def check_owned(path: Path) -> None:
    """InputError before something is written at `path` in a folder that is not the owned one any more."""
    if not _owned:
        return
    place = Path(os.path.abspath(path))
    for folder in (place, *place.parents):
        if folder in _owned:
            name, identity = _owned[folder]
            try:
                found = os.stat(folder / name)
            except OSError:
                found = None
            if found is None or (found.st_dev, found.st_ino) != identity:
                raise InputError(
                    f"{folder} is not the folder that this process was writing to, which was moved, removed or "
                    "replaced: nothing is written there; resume the run with --resume where it is now"
                )
