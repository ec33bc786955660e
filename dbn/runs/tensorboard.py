"""TensorBoard event files: scalars, images, histograms and hyperparameters."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any, Self

import google_crc32c
import torch
from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from torch import Tensor
from torch.utils.tensorboard import summary
from torch.utils.tensorboard.summary import hparams as hparam_summaries

from dbn.errors import InputError
from dbn.runs.curves import description, placed
from dbn.storage.files import atomic_write, io_error, make_folder, read_file

BINS = [1e-12 * 1.1**n for n in range(774)]
"""Of histograms, to 1e20 either side of 0: those of torch's SummaryWriter."""
FILES = "events.out.tfevents.*"
_numbers = count()


class EventLog:
    """The events of one TensorBoard run, in one folder, their tags after `prefix`. The first event opens the file.

    Written in the calling thread, unlike torch's SummaryWriter: a method that the disk refuses raises InputError.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.folder, self.prefix = folder, prefix
        self._opened: IO[bytes] | None = None

    @property
    def file(self) -> Path | None:
        """The open file."""
        return None if self._opened is None else Path(self._opened.name)

    def _write(self, summarized: Any, step: int = 0) -> None:
        with self._refusing():
            if self._opened is None:
                make_folder(self.folder)
                # Readers sort files by name, so the second must rise, also where the clock was set back.
                latest = max((_age(file) for file in self.folder.glob(FILES)), default=())
                second = max(int(time.time()), latest[0] + 1 if latest else 0)
                place = f"{second:010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):06d}"
                self._opened = (self.folder / f"events.out.tfevents.{place}").open("wb")
                self._record(Event(file_version="brain.Event:2", source_metadata=SourceMetadata(writer="dbn")))
            self._record(Event(summary=summarized, step=step))

    def _record(self, event: Any) -> None:
        event.wall_time = time.time()
        assert self._opened is not None
        self._opened.write(_framed(event.SerializeToString()))

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise io_error(self.folder / "events.out.tfevents…", "written", error) from error

    def scalars(self, record: Mapping[str, float | int], *, prefix: str = "", step: int) -> None:
        """Every number of `record` under `prefix/name`, in single precision; NaN is marked in the curve.

        Seconds stand under timing/, after the rest. TensorBoard shows what is known of a curve beside its name.
        """
        for tag, scalar in self._numbers(record, prefix):
            scalar.value[0].metadata.summary_description = description(tag)
            self._write(scalar, step)

    def figures(self, record: Mapping[str, float | int], *, prefix: str = "", step: int) -> None:
        """Numbers that are measured once, for readers of the file: a dot is no curve, and *Scalars* shows none."""
        for _, figure in self._numbers(record, prefix):
            figure.value[0].metadata.plugin_data.plugin_name = "figures"
            self._write(figure, step)

    def _numbers(self, record: Mapping[str, float | int], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in record.items():
            tag = placed(self.prefix + (f"{prefix}/{name}" if prefix else name))
            # Not double_precision: TensorBoard's fast loader, its default, does not show such curves.
            yield tag, summary.scalar(tag, value, new_style=True)

    def chart(self, layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Charts of several tags each: {category: {title: ["Multiline", [tag, …]]}}. The last call counts."""
        self._write(summary.custom_scalars(layout))

    def images(self, tag: str, images: Tensor, step: int) -> None:
        """(N, C, H, W), eight a row, or one image (C, H, W): bytes, or values in [0, 1]; C is 1 or 3.

        FloatingPointError when a value is not finite.
        """
        _require_finite(self.prefix + tag, images)
        self._write(summary.image(self.prefix + tag, images, dataformats="CHW" if images.ndim == 3 else "NCHW"), step)

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """The distribution of `values`, of any shape; FloatingPointError when one is not finite."""
        _require_finite(self.prefix + tag, values)
        bins = [-edge for edge in reversed(BINS)] + [0.0] + BINS
        self._write(summary.histogram(self.prefix + tag, values.detach().flatten().float(), bins), step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Markdown for the TEXT tab."""
        written = text.encode(errors="replace").decode()  # a name of a file may be no text
        self._write(summary.text(self.prefix + tag, written), step)

    def hparams(self, columns: Mapping[str, Any]) -> None:
        """This run's row of the HPARAMS tab: options, and results that are no curves.

        Lists and truth values are shown as text, None as an empty cell. There is no summary of the experiment, of which
        TensorBoard would take the columns for all runs, so rows of other commands stand in the same table; the last
        values of the run's curves are the metrics.
        """
        plain = {
            name: value if isinstance(value, int | float | str) and not isinstance(value, bool) else str(value)
            for name, value in columns.items()
            if value is not None
        }
        # SummaryWriter.add_hparams would open a second, time-stamped run for these.
        _, start, end = hparam_summaries(plain, {})
        self._write(start)
        self._write(end)

    def flush(self) -> None:
        """Write everything given so far to the file."""
        if self._opened is not None:
            with self._refusing():
                self._opened.flush()

    def close(self) -> None:
        """Flush and release the file; a later event opens another."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            with self._refusing():
                opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @staticmethod
    def keep(folder: Path, keep: Callable[[str, int], bool], rename: Callable[[str], str] = str) -> None:
        """Rewrite the folder's event files as one that holds each (tag, step) once, and only where `keep` says so.

        `rename` comes first: two tags may become one, and `keep` is asked for the new name, both without timing/.
        Steps are sorted, since TensorBoard forgets what it has read of a curve when a lower step follows.

        For resuming from a checkpoint, when the epochs after it are repeated. The first layout of charts stays until
        `chart` is called again; the HPARAMS row is dropped, since TensorBoard shows the first one it meets. A torn last
        record is left out. No EventLog may be open on the folder, and a running TensorBoard must be restarted.
        InputError for a file that is damaged before its end.
        """
        files = sorted(folder.glob(FILES), key=_age)
        if not files:
            return
        # Should the process die before the others are removed, repeating this gives the same file.
        atomic_write(files[0], lambda path: _write_kept(path, files, keep, rename))
        try:
            for file in files[1:]:
                file.unlink()
        except OSError as error:
            raise io_error(file, "removed", error) from error


def read_events(folder: Path) -> Iterator[tuple[int, Any]]:
    """Step and value, a `Summary.Value` with its tag, of a folder's events, oldest first; InputError for damage."""
    for event in _events(sorted(folder.glob(FILES), key=_age)):
        yield from ((event.step, value) for value in event.summary.value)


def _age(file: Path) -> tuple[int, ...]:
    """The numbers in …tfevents.SECOND.HOST.PROCESS.COUNT, whose counts are not sorted as text: 10 comes after 9."""
    return tuple(int(part) for part in file.name.split(".") if part.isdecimal())


def _write_kept(
    path: Path, files: Sequence[Path], keep: Callable[[str, int], bool], rename: Callable[[str], str]
) -> None:
    seen: set[tuple[str, int]] = set()

    def is_kept(tag: str, step: int) -> bool:
        if (tag, step) in seen or tag.startswith("_hparams_/"):
            return False
        seen.add((tag, step))
        asked = tag.removeprefix("timing/").removesuffix("/text_summary")
        return tag == "custom_scalars__config__" or keep(asked, step)

    with path.open("wb") as file:
        for number, event in enumerate(sorted(_events(files), key=lambda event: event.step)):
            if event.HasField("summary"):
                for value in event.summary.value:
                    value.tag = placed(rename(value.tag.removeprefix("timing/")))
                values = [value for value in event.summary.value if is_kept(value.tag, event.step)]
                del event.summary.value[:]
                event.summary.value.extend(values)
                wanted = bool(values)
            else:
                wanted = number == 0 or not event.HasField("file_version")
            if wanted:
                file.write(_framed(event.SerializeToString()))


def _events(files: Sequence[Path]) -> Iterator[Any]:
    for file in files:
        for record in _records(file):
            try:
                yield Event.FromString(record)
            except Exception as error:  # the checksum can be right and the content no event
                raise _damaged(file) from error


def _framed(record: bytes) -> bytes:
    """The record between its length, that length's checksum and its own, as TFRecord files hold it.

    Not by TensorBoard's RecordWriter, whose checksum, byte by byte in Python, takes half the time of a small fit.
    """
    size = len(record).to_bytes(8, "little")
    return size + _checksum(size) + record + _checksum(record)


def _records(file: Path) -> Iterator[bytes]:
    """The records; TensorBoard's reader hides damage."""
    data = memoryview(read_file(file))
    while data:
        size = int.from_bytes(data[:8], "little")
        end = 12 + size
        is_header = len(data) >= 12 and data[8:12] == _checksum(data[:8])
        if is_header and len(data) >= end + 4 and data[end : end + 4] == _checksum(data[12:end]):
            yield bytes(data[12:end])
            data = data[end + 4 :]
        elif len(data) < 12 or (is_header and len(data) <= end + 4) or not any(data):
            return  # cut off, or never filled
        else:
            raise _damaged(file)


def _checksum(data: bytes | memoryview) -> bytes:
    """CRC-32C, rotated by 15 bits and shifted by a constant: tensorflow/core/lib/hash/crc32c.h."""
    crc: int = google_crc32c.value(bytes(data))
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def _damaged(file: Path) -> InputError:
    return InputError(f"{file} is damaged, TensorBoard cannot read it: remove it, its numbers are in metrics.jsonl")


def _require_finite(tag: str, values: Tensor) -> None:
    finite = torch.isfinite(values)
    if not finite.all():
        raise FloatingPointError(f"{tag}: {int((~finite).sum())} of {values.numel()} values are not finite")
