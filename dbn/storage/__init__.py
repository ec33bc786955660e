"""File formats: atomic files, tensors without pickle, NumPy arrays, limits on YAML."""

from typing import TYPE_CHECKING

from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.storage.files import atomic_write as atomic_write
    from dbn.storage.files import check_writable as check_writable
    from dbn.storage.files import read_file as read_file
    from dbn.storage.npz import read_arrays as read_arrays
    from dbn.storage.tensors import load_state as load_state
    from dbn.storage.tensors import read_tensors as read_tensors
    from dbn.storage.tensors import save_state as save_state
    from dbn.storage.tensors import write_tensors as write_tensors

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
