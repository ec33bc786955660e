"""Numbers, pictures and hyper-parameters for TensorBoard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparam_summaries

from dbn.storage import write_whole


class EventLog:
    """The events of one TensorBoard run, in one folder. The file is opened by the first event."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: SummaryWriter | None = None

    @property
    def _writer(self) -> SummaryWriter:
        if self._opened is None:
            self._opened = SummaryWriter(str(self.folder))
        return self._opened

    def scalars(self, record: Mapping[str, float | int], *, prefix: str, step: int) -> None:
        """Every number of `record` under `prefix/name`, in single precision; NaN is marked in the curve."""
        for name, value in record.items():
            tag = f"{prefix}/{name}" if prefix else name
            # Not double_precision: TensorBoard's fast loader, its default, does not show such curves.
            self._writer.add_scalar(tag, value, step, new_style=True)

    def chart(self, layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Charts of several tags each: {category: {title: ["Multiline", [tag, …]]}}. The last call counts."""
        self._writer.add_custom_scalars(layout)

    def images(self, tag: str, images: Tensor, step: int) -> None:
        """(N, C, H, W), eight a row, or one picture (C, H, W): bytes, or values in [0, 1]; C is 1 or 3.

        FloatingPointError when a value is not finite.
        """
        _require_finite(tag, images)
        self._writer.add_image(tag, images, step, dataformats="CHW" if images.ndim == 3 else "NCHW")

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """The distribution of `values`, of any shape; FloatingPointError when one is not finite."""
        _require_finite(tag, values)
        self._writer.add_histogram(tag, values.detach().flatten().float(), step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Markdown for the TEXT tab."""
        self._writer.add_text(tag, text, step)

    def hparams(self, hparams: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """This run's row of the HPARAMS tab; `metrics` become scalars at step 0 as well.

        What is neither a number nor a string is shown as text, so that None and lists keep their columns. Give
        every run the same keys: TensorBoard takes the columns from one of them.
        """
        plain = {name: _number_or_text(value) for name, value in hparams.items()}
        # SummaryWriter.add_hparams would open a second, time-stamped run for these three.
        file_writer: Any = self._writer.file_writer
        for summary in hparam_summaries(plain, dict(metrics)):
            file_writer.add_summary(summary)
        self.scalars(metrics, prefix="", step=0)

    def flush(self) -> None:
        """Everything given so far reaches the file."""
        if self._opened is not None:
            self._opened.flush()

    def close(self) -> None:
        """Flush and release the file; a later event opens another."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def keep(folder: Path, keep: Callable[[str, int], bool]) -> None:
        """Rewrite the folder's event files as one that holds each (tag, step) once, and only where `keep` says so.

        For going on from a checkpoint: epochs after it will come again. A layout of charts stays, the first if
        there were several, until `chart` is called again; the HPARAMS row goes, since TensorBoard shows the first
        one it meets. A torn last record is left out. No EventLog may be open on the folder, and a running
        TensorBoard must be restarted.
        """
        files = sorted(folder.glob("events.out.tfevents.*"), key=_age)
        if not files:
            return
        # Should the process die before the others are gone, doing it again gives the same file.
        write_whole(files[0], lambda path: _write_kept(path, files, keep))
        for file in files[1:]:
            file.unlink()


def _age(file: Path) -> tuple[int, ...]:
    """The numbers in …tfevents.SECOND.HOST.PROCESS.COUNT, whose counts are not sorted as text: 10 comes after 9."""
    return tuple(int(part) for part in file.name.split(".") if part.isdigit())


def _write_kept(path: Path, files: Sequence[Path], keep: Callable[[str, int], bool]) -> None:
    seen: set[tuple[str, int]] = set()

    def is_kept(tag: str, step: int) -> bool:
        if (tag, step) in seen or tag.startswith("_hparams_/"):
            return False
        seen.add((tag, step))
        return tag == "custom_scalars__config__" or keep(tag.removesuffix("/text_summary"), step)

    with path.open("wb") as file:
        records = RecordWriter(file)
        for number, event in enumerate(_events(files)):
            if event.HasField("summary"):
                values = [value for value in event.summary.value if is_kept(value.tag, event.step)]
                del event.summary.value[:]
                event.summary.value.extend(values)
                wanted = bool(values)
            else:
                wanted = number == 0 or not event.HasField("file_version")
            if wanted:
                records.write(event.SerializeToString())


def _events(files: Sequence[Path]) -> Iterator[Any]:
    # "Legacy" is the loader that leaves events as they were written.
    for file in files:
        yield from LegacyEventFileLoader(str(file)).Load()


def _require_finite(tag: str, values: Tensor) -> None:
    finite = torch.isfinite(values)
    if not finite.all():
        raise FloatingPointError(f"{tag}: {int((~finite).sum())} of {values.numel()} values are not finite")


def _number_or_text(value: Any) -> float | int | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return str(value)
    return value
