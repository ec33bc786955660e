"""What TensorBoard will find, read with TensorBoard's own reader."""

import math
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util
from torch.utils.tensorboard import summary

from dbn.runs import tensorboard as module
from dbn.runs.tensorboard import EventLog


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "histograms": 0})
    return events.Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, tensor_util.make_ndarray(event.tensor_proto).item()) for event in read(folder).Tensors(tag)]


def test_scalars_stand_behind_their_prefix(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.scalars({"kl": 0.1, "units": 2**24}, prefix="layer1", step=1)
        log.scalars({"kl": math.nan}, prefix="layer1", step=2)
        log.scalars({"total": 1}, prefix="", step=3)
    (first, second) = curve(tmp_path, "layer1/kl")
    assert first == (1, torch.tensor(0.1).item())
    assert second[0] == 2
    assert math.isnan(second[1])
    assert curve(tmp_path, "layer1/units") == [(1, 2**24)]
    assert curve(tmp_path, "total") == [(3, 1.0)]
    # TensorBoard's fast loader shows no curve of doubles, though its Python reader does.
    assert {event.tensor_proto.dtype for event in read(tmp_path).Tensors("layer1/kl")} == {DT_FLOAT}


@pytest.mark.parametrize("size", [0, 1, 8, 255, 3001])
def test_checksums_are_those_of_tensorboard(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own arithmetic, which `tiny` replaces."""
    monkeypatch.setattr(pywrap_tensorflow, "crc32c", lambda data: pywrap_tensorflow.crc_update(0, data))
    data = random.Random(size).randbytes(size)
    assert module._checksum(memoryview(data)) == pywrap_tensorflow.masked_crc32c(data).to_bytes(4, "little")


def test_nothing_is_opened_before_the_first_event(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "a")
    log.flush()
    log.close()
    assert not (tmp_path / "a").exists()
    log.scalars({"x": 1.0}, prefix="p", step=1)
    log.flush()
    assert curve(tmp_path / "a", "p/x") == [(1, 1.0)]
    log.close()
    log.close()


def test_one_chart_holds_both_curves(tmp_path: Path) -> None:
    tags = ["layer1/reconstruction_error", "layer1/kl"]
    with EventLog(tmp_path) as log:
        log.chart({"layer 1": {"reconstruction": ["Multiline", tags]}})
    (event,) = read(tmp_path).Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    assert layout.category[0].title == "layer 1"
    assert layout.category[0].chart[0].title == "reconstruction"
    assert list(layout.category[0].chart[0].multiline.tag) == tags


@pytest.mark.parametrize(
    ("shape", "width", "height"), [((9, 1, 2, 3), 24, 4), ((2, 3, 2, 3), 6, 2), ((3, 5, 4), 4, 5), ((1, 5, 4), 4, 5)]
)
def test_pictures_become_a_grid(shape: tuple[int, ...], width: int, height: int, tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.images("filters", torch.rand(shape, generator=torch.Generator().manual_seed(0)), 5)
    (image,) = read(tmp_path).Images("filters")
    assert (image.step, image.width, image.height) == (5, width, height)


def test_histograms_count_every_value(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.histogram("weight", torch.tensor([[-1.0, 2.0], [2.0**100, 0.0]], dtype=torch.bfloat16), 3)
    (event,) = read(tmp_path).Histograms("weight")
    value = event.histogram_value
    assert (event.step, value.num, value.min, value.max, value.sum) == (3, 4.0, -1.0, 2.0**100, 2.0**100)


@pytest.mark.parametrize("method", ["images", "histogram"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_named(method: str, value: float, tmp_path: Path) -> None:
    values = torch.zeros(1, 1, 2, 2)
    values[..., 0] = value
    with EventLog(tmp_path) as log, pytest.raises(FloatingPointError, match="layer1/weight: 2 of 4 values are not"):
        getattr(log, method)("layer1/weight", values, 1)


def test_hparams_need_no_second_run(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.hparams({"rate": 0.1, "hidden": [5, 4], "labels": None, "refit": True, "init": "dbn", "test_error": 7.5})
    assert [path.is_file() for path in tmp_path.iterdir()] == [True]
    data = read(tmp_path).PluginTagToContent("hparams")
    # Without a summary of the experiment, of which TensorBoard would take the columns of all runs.
    assert sorted(data) == ["_hparams_/session_end_info", "_hparams_/session_start_info"]
    start = HParamsPluginData.FromString(data["_hparams_/session_start_info"]).session_start_info
    assert {name: value.number_value or value.string_value for name, value in start.hparams.items()} == {
        "rate": 0.1,
        "hidden": "[5, 4]",
        "refit": "True",
        "init": "dbn",
        "test_error": 7.5,
    }


def test_a_number_measured_once_is_no_curve(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.figures({"test_error": 7.5}, prefix="finetune", step=4)
        log.scalars({"valid_error": 8.0}, prefix="finetune", step=4)
    assert curve(tmp_path, "finetune/test_error") == [(4, 7.5)]  # as other readers find it
    assert sorted(read(tmp_path).PluginTagToContent("scalars")) == ["finetune/valid_error"]


def test_seconds_come_last_and_curves_say_what_they_are(tmp_path: Path) -> None:
    with EventLog(tmp_path, "layer1/") as log:
        log.scalars({"kl": 1.0, "valid_kl": 1.5, "seconds": 2.0, "mine": 3.0}, step=1)
    tags = read(tmp_path).Tags()["tensors"]
    assert sorted(tags) == ["layer1/kl", "layer1/mine", "layer1/valid_kl", "timing/layer1/seconds"]
    about = {tag: read(tmp_path).SummaryMetadata(tag).summary_description for tag in tags}
    assert about["layer1/kl"].startswith("KL divergence of the data from their reconstruction")
    assert about["layer1/valid_kl"].startswith("Of validation data: KL")
    assert about["timing/layer1/seconds"] == "Seconds of training in the epoch."
    assert about["layer1/mine"] == ""


def test_seconds_of_older_runs_move_to_the_others_and_are_asked_for_by_their_name(tmp_path: Path) -> None:
    for prefix, step in (("layer1/seconds", 1), ("timing/layer1/seconds", 2)):
        with EventLog(tmp_path) as log:
            log._write(summary.scalar(prefix, 1.0, new_style=True), step)
    asked = set()

    def keep(tag: str, step: int) -> bool:
        asked.add((tag, step))
        return True

    EventLog.keep(tmp_path, keep)
    assert asked == {("layer1/seconds", 1), ("layer1/seconds", 2)}
    assert curve(tmp_path, "timing/layer1/seconds") == [(1, 1.0), (2, 1.0)]


def write_epochs(folder: Path, epochs: range) -> None:
    with EventLog(folder) as log:
        log.chart({"layer 1": {"both": ["Multiline", ["layer1/kl"]]}})
        for epoch in epochs:
            log.scalars({"kl": 10.0 * epoch}, prefix="layer1", step=epoch)
            log.histogram("layer1/weight", torch.arange(3.0), epoch)
            log.text("note", f"epoch {epoch}", epoch)
        log.hparams({"rate": 0.1})


def test_a_resumed_run_shows_no_epoch_twice(tmp_path: Path) -> None:
    write_epochs(tmp_path, range(1, 6))
    write_epochs(tmp_path, range(4, 7))
    asked = set()

    def keep(tag: str, step: int) -> bool:
        asked.add(tag)
        return 1 <= step <= 3

    EventLog.keep(tmp_path, keep)
    assert asked == {"layer1/kl", "layer1/weight", "note"}
    assert len(list(tmp_path.iterdir())) == 1
    assert read(tmp_path).PluginTagToContent("custom_scalars")
    assert "_hparams_/session_start_info" not in read(tmp_path).summary_metadata

    write_epochs(tmp_path, range(4, 6))
    assert curve(tmp_path, "layer1/kl") == [(epoch, 10.0 * epoch) for epoch in (1, 2, 3, 4, 5)]
    events = read(tmp_path)
    assert [event.step for event in events.Histograms("layer1/weight")] == [1, 2, 3, 4, 5]
    assert [event.step for event in events.Tensors("note/text_summary")] == [1, 2, 3, 4, 5]
    assert len(events.PluginTagToContent("hparams")) == 2


def test_keeping_can_be_done_again_after_it_was_cut_short(tmp_path: Path) -> None:
    folder, spare = tmp_path / "a", tmp_path / "spare"
    spare.mkdir()
    write_epochs(folder, range(1, 3))
    write_epochs(folder, range(3, 5))
    shutil.copy(max(folder.iterdir()), spare)
    EventLog.keep(folder, lambda tag, step: True)
    whole = [path.read_bytes() for path in folder.iterdir()]
    shutil.copy(next(spare.iterdir()), folder)
    EventLog.keep(folder, lambda tag, step: True)
    assert [path.read_bytes() for path in folder.iterdir()] == whole
    assert [step for step, _ in curve(folder, "layer1/kl")] == [1, 2, 3, 4]


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_torn_last_record_is_left_out(cut: int, tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.scalars({"x": float(step)}, prefix="p", step=step)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    EventLog.keep(tmp_path, lambda tag, step: True)
    with EventLog(tmp_path) as log:
        log.scalars({"x": 3.0}, prefix="p", step=3)
    assert curve(tmp_path, "p/x") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_flushed_events_can_be_read_while_the_log_is_open(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.text("slow", "." * 300_000, 1)  # its checksum keeps the writing thread busy
        log.scalars({"x": 1.0}, prefix="p", step=1)
        log.flush()
        assert curve(tmp_path, "p/x") == [(1, 1.0)]


def test_a_folder_without_events_stays_as_it_is(tmp_path: Path) -> None:
    EventLog.keep(tmp_path, lambda tag, step: False)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_epochs(tmp_path, range(1, 3))
    EventLog.keep(tmp_path, lambda tag, step: True)
    assert capfd.readouterr() == ("", "")


def test_of_two_events_of_a_second_the_first_stays(tmp_path: Path) -> None:
    for count in (9, 10):
        with EventLog(tmp_path) as log:
            log.scalars({"kl": 10.0 * count}, prefix="layer1", step=1)
        (file,) = (path for path in tmp_path.iterdir() if not path.name.endswith(".9"))
        file.rename(tmp_path / f"events.out.tfevents.1700000000.host.77.{count}")
    EventLog.keep(tmp_path, lambda tag, step: True)
    assert curve(tmp_path, "layer1/kl") == [(1, 90.0)]


def test_steps_are_put_in_order_under_new_names(tmp_path: Path) -> None:
    for prefix, epochs in (("a", (2, 5)), ("b", (1, 4)), ("b", (0, 4))):
        with EventLog(tmp_path) as log:
            for epoch in epochs:
                log.scalars({"x": 10.0 * epoch}, prefix=prefix, step=epoch)
                log.histogram(f"{prefix}/h", torch.full((3,), float(epoch)), epoch)
    asked = set()

    def keep(tag: str, step: int) -> bool:
        asked.add(tag)
        return step != 5

    EventLog.keep(tmp_path, keep, lambda tag: tag.replace("b/", "a/"))
    assert asked == {"a/x", "a/h"}
    assert curve(tmp_path, "a/x") == [(0, 0.0), (1, 10.0), (2, 20.0), (4, 40.0)]
    assert [event.step for event in read(tmp_path).Histograms("a/h")] == [0, 1, 2, 4]
    assert read(tmp_path).Tags()["tensors"] == ["a/x"]


def test_a_clock_that_is_set_back_leaves_events_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.out.tfevents.²").touch()
    for second, epochs in ((1700000000, range(1, 3)), (1600000000, range(3, 4)), (1500000000, range(4, 6))):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda now=second: float(now)))
        write_epochs(tmp_path, epochs)
    assert curve(tmp_path, "layer1/kl") == [(epoch, 10.0 * epoch) for epoch in range(1, 6)]
    EventLog.keep(tmp_path, lambda tag, step: True)
    assert curve(tmp_path, "layer1/kl") == [(epoch, 10.0 * epoch) for epoch in range(1, 6)]
