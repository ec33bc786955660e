"""NumPy files, `.npz` and `.npy`, and scipy's sparse arrays in `.npz`."""

from pathlib import Path
from typing import Any

from dbn.arrays import as_array
from dbn.data.readers.array_names import by_role, roles, weight_roles
from dbn.data.table import Table, table_of
from dbn.errors import InputError, parsing
from dbn.storage.npz import read_arrays

SPARSE = ("data", "indices", "indptr", "row", "col", "shape", "format")


def read_numpy(path: Path, weight_column: str | None = None) -> Table:
    """The arrays of a `.npz` or `.npy` file by their usual names, or a sparse array that scipy saved."""
    name = str(path)
    if weight_column is not None and path.suffix.lower() == ".npy":
        raise InputError(f"--weight-column is for files of several arrays, and {name} holds one: leave it out")
    with path.open("rb") as file:
        _, keys = read_arrays(file, (), name)
        is_sparse = {"data", "format", "shape"} <= set(keys)
        wanted = (
            SPARSE
            if is_sparse
            else [key for key in keys if key in roles(keys) | weight_roles(keys, weight_column, name)]
        )
        arrays, _ = read_arrays(file, wanted, name)
    if is_sparse and weight_column is not None:
        raise InputError(f"--weight-column does not go with {name}, a sparse array alone: save x and weights by name")
    found = {"x": _dense(arrays, name)} if is_sparse else by_role(arrays, keys, name, weight_column)
    return table_of(name, found, weight_column=weight_column or "")


def _dense(arrays: dict[str, Any], name: str) -> Any:
    """The sparse array with its zeros filled in; InputError for parts that are no such array."""
    import scipy.sparse

    with parsing(
        InputError(f"{name} is damaged, or a sparse array other than csr, csc and coo: save it as one of these")
    ):
        kind, shape = arrays["format"].item(), tuple(map(int, arrays["shape"]))
        kind = kind.decode() if isinstance(kind, bytes) else kind
        make = {"csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array, "coo": scipy.sparse.coo_array}[kind]
        data = arrays["data"]
        if kind == "coo":
            sparse = make((data, (arrays["row"], arrays["col"])), shape=shape)
        else:
            sparse = make((data, arrays["indices"], arrays["indptr"]), shape=shape)
            sparse.check_format(full_check=True)
    return as_array(sparse, name)
