"""Arrays in `.npz` and `.npy` files: what a header declares is compared with the file before memory is taken.

Nothing here can unpickle.
"""

import io
import math
import sys
import zipfile
from collections.abc import Collection
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dbn.errors import InputError, is_out_of_memory

PIECE = 1 << 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that numpy writes. Others may declare gigabytes for their own use."""
GROWTH_OF_DEFLATE = 1032
"""How many times its packed size data can have at most: two bits for 258 bytes."""
LARGEST_GROWTH, HARMLESS = 100, 1 << 26
"""How many times its size in the file an array may take unpacked, if it is of more than so many bytes."""
MAPPED = 1 << 26
"""Bytes beyond which the array of a `.npy` file is mapped rather than read."""
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_arrays(
    file: IO[bytes], names: Collection[str], source: str = "the file"
) -> tuple[dict[str, NDArray], list[str]]:
    """The named arrays of an open file, as far as they are there, and the names of all; a `.npy` file holds `x`.

    `source` is what errors call the file. InputError for what is damaged, an array of Python objects, two arrays of
    one name, and an array that unpacks to many times its size.
    """
    try:
        return _read(file, names)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    except Exception as error:  # a damaged byte ends in zipfile, zlib, ast, a wrong length, …: many types
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{source} is damaged or not a NumPy file, save it again with numpy.save or numpy.savez"
        ) from error


def _read(file: IO[bytes], names: Collection[str]) -> tuple[dict[str, NDArray], list[str]]:
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(6) == npy.MAGIC_PREFIX:
        file.seek(0)
        return {"x": _read_array(file, size, mapped=isinstance(file, io.BufferedReader))}, ["x"]
    with zipfile.ZipFile(_Piecewise(file)) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for name in names:
            if sum(info.filename in (name, f"{name}.npy") for info in archive.infolist()) > 1:
                raise InputError(f"two arrays are called {name!r}: save one alone")
        return {name: _read_member(archive, members[name], size) for name in names if name in members}, list(members)


class _Piecewise:
    """A file that is read a `PIECE` at a time: a list of members that is longer takes ten times its size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        if size > PIECE:
            raise ValueError("the list of members is longer than any that numpy writes")
        return self._file.read(size)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> NDArray:
    """An array of an archive of `size` bytes, unpacked piece by piece into its place: it takes its own size alone."""
    if info.compress_type not in METHODS:
        raise ValueError(f"{info.filename} is packed in a way that numpy does not write")
    possible = info.compress_size * (GROWTH_OF_DEFLATE if info.compress_type == zipfile.ZIP_DEFLATED else 1)
    if info.compress_size > size or info.file_size > possible:
        raise ValueError(f"{info.filename} is said to be larger than its packed bytes can be")
    if info.file_size > max(HARMLESS, LARGEST_GROWTH * info.compress_size):
        raise InputError(
            f"{info.filename} would unpack from {info.compress_size:,} to {info.file_size:,} bytes: save it with "
            "numpy.savez, unpacked, if it is meant to be so"
        )
    with archive.open(info) as member:
        array = _read_array(member, info.file_size)
        while member.read(PIECE):  # to its end, where the checksum is compared
            pass
    return array


def _read_array(file: IO[bytes], size: int, *, mapped: bool = False) -> NDArray:
    """The array that begins here and ends within the `size` bytes of the file; a large one is `mapped` if it may be."""
    start, version = file.tell(), npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the format is for arrays with named fields")
    try:
        shape, is_fortran, dtype = HEADERS[version](file)
    except MemoryError as error:  # of the parser, for what is nested too deep
        raise ValueError("the header is no description of an array") from error
    if dtype.hasobject:
        raise InputError(
            "an array holds Python objects, which are never unpickled: save plain arrays of numbers (for labels, also "
            "of strings)"
        )
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or dtype.itemsize == 0 or needed > size - file.tell():
        raise ValueError(f"{shape} of {dtype} is more than the file holds")
    if mapped and not is_fortran and needed > MAPPED:
        return of_characters(np.memmap(file, dtype, "r", file.tell(), shape))
    file.seek(start)
    array: NDArray = npy.read_array(file, allow_pickle=False)
    return of_characters(array)


def of_characters(array: NDArray) -> NDArray:
    """The array; InputError for strings with numbers that are no characters, on which Python fails."""
    if array.dtype.kind == "U":
        ordered = array if array.flags.c_contiguous else array.T
        codes = ordered.reshape(-1).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        for start in range(0, len(codes), PIECE):
            part = codes[start : start + PIECE]
            if ((part > sys.maxunicode) | ((part >= 0xD800) & (part < 0xE000))).any():  # or half of a pair
                raise InputError("text holds numbers that are no characters: save it again")
    return array
