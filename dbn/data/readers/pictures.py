"""Folders of pictures, read by Pillow: a folder a class, as torchvision's `ImageFolder` has them, or all in one."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dbn.data.readers.array_names import PARTS
from dbn.data.table import Table, table_of
from dbn.data.torchvision_datasets import import_torchvision
from dbn.errors import InputError, listed, parsing

GRAY, COLOR = ("1", "L", "LA"), ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")


def read_pictures(path: Path, image_size: Sequence[int] | None = None, colors: str | None = None) -> Table:
    """Bytes (N, C, H, W) of the pictures in a folder, and the names of their subfolders as labels.

    Folders called train, test and valid (or val, validation) are those parts. Pictures are resized to `image_size`,
    (H,) or (H, W), and are gray or "rgb" as `colors` says; without these all must be alike.

    InputError where there are no pictures, one is damaged, of 16 bits or transparent, or they are not alike.
    """
    folders = {PARTS.get(each.name): each for each in sorted(path.iterdir()) if each.is_dir() and each.name in PARTS}
    others = [each.name for each in sorted(path.iterdir()) if _is_shown(each) and each.name not in PARTS]
    if "" in folders and others:
        raise InputError(
            f"{path} has the folder 'train', which holds training pictures, beside {listed(others, 5)}: move these "
            "elsewhere, or call it something else if it is a class"
        )
    parts = folders if "" in folders else {"": path}
    found = {part: _listed(folder) for part, folder in parts.items()}
    rows = pixels(((str(file), file) for files, _ in found.values() for file in files), image_size, colors)
    arrays, start, names = {}, 0, []
    for part, (files, labels) in found.items():
        arrays[f"x{part}"] = rows[start : start + len(files)]
        arrays |= {} if labels is None else {f"y{part}": np.array(labels, object)}
        start += len(files)
        names += files
    starts = {part: sum(len(found[each][0]) for each in list(found)[:place]) for place, part in enumerate(found)}
    return table_of(str(path), arrays, place=lambda part, row: str(names[starts[part] + row]), divisor=255.0)


def _is_shown(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _listed(folder: Path) -> tuple[list[str], list[str] | None]:
    """The files, and their classes where there are folders of these."""
    datasets = import_torchvision().datasets
    endings = datasets.folder.IMG_EXTENSIONS
    flat = sorted(str(each) for each in folder.iterdir() if each.suffix.lower() in endings and each.is_file())
    classes = [each for each in folder.iterdir() if _is_shown(each)]
    if flat and classes:
        raise InputError(f"{folder} holds pictures beside folders: put each picture into the folder of its class")
    if not flat and not classes:
        raise InputError(f"{folder} is a folder without pictures ({', '.join(endings)}), but a file or some are needed")
    if flat:
        return flat, None
    try:
        known = datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise InputError(f"{folder}: {str(error).rstrip('. ')}: remove the empty folders") from None
    return [file for file, _ in known.samples], [known.classes[code] for _, code in known.samples]


def pixels(sources: Iterable[tuple[str, Any]], size: Sequence[int] | None, colors: str | None) -> NDArray:
    """Bytes (N, C, H, W) of pictures given as names for errors and as files to open."""
    rows: list[NDArray] = []
    first = ""
    for name, source in sources:
        row = _pixels(name, source, size, colors)
        if rows and row.shape != rows[0].shape:
            option = "--colors gray or rgb" if row.shape[1:] == rows[0].shape[1:] else "--image-size"
            here, there = ("×".join(map(str, each.shape)) for each in (row, rows[0]))
            raise InputError(
                f"{name} is of {here} values (channels, height, width), but {first} of {there}: say {option}"
            )
        first = first or name
        rows.append(row)
    return np.stack(rows)


def _pixels(name: str, source: Any, size: Sequence[int] | None, colors: str | None) -> NDArray:
    with (
        parsing(InputError(f"{name} is damaged or no picture: remove it or take another copy")),
        Path(source).open("rb") if isinstance(source, str) else source as file,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image: Image.Image = Image.open(file)
        image.load()
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        is_transparent = has_alpha and np.asarray(image.convert("RGBA"))[..., 3].min() < 255
    if image.mode not in GRAY + COLOR:
        raise InputError(f"{name} has pixels of mode {image.mode}, but 8 bits a channel are needed: convert it")
    if is_transparent:
        raise InputError(f"{name} is transparent in part, put a background under it")
    image = image.convert({"gray": "L", "rgb": "RGB", None: "L" if image.mode in GRAY else "RGB"}[colors])
    if size is not None:
        image = image.resize((size[-1], size[0]), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
