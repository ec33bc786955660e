"""The scripts as a user calls them, on pictures that are learnt in a second, with good input and bad."""

import contextlib
import csv
import io
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tiny import metrics, pictures, result, save_pictures

import dbn
from dbn.finetuning.report import comparison_text
from dbn.models.scaling import Scaling
from dbn.runs.classifier import best_classifier, load_classifier, read_classifier
from dbn.runs.folder import RunFolder
from dbn.runs.weights import load
from dbn.tasks.metrics import predict

SCRIPTS = Path(__file__).parents[2] / "scripts"
PRETRAIN = "--dataset tiny.npz --hidden 9 6 --epochs 2 --batch-size 40 --run runs/pre"
FINETUNE = "--pretrained runs/pre --init dbn he_normal --labels 24 --seeds 2 --epochs 2 --run runs/fine"
PREDICT = "--run runs/fine --output out.csv"
SAMPLE = "--run runs/pre --output out.png"
FEATURES = "--run runs/pre --output out.csv"


def start(script: str, words: str, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", str(SCRIPTS / f"{script}.py"), *words.split()]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(script: str, words: str, folder: Path) -> str:
    """What a script that succeeds prints; nothing goes to standard error, which is no terminal here."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [f"{SCRIPTS / script}.py", *words.split()])
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert err.getvalue() == ""
    return out.getvalue()


def run_alone(script: str, words: str, folder: Path) -> str:
    """The same in a process of its own."""
    with start(script, words, folder) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a stack and a comparison, made by the scripts."""
    folder = tmp_path_factory.mktemp("scripts")
    x, y = pictures(side=8)
    save_pictures(folder / "tiny.npz", side=8)
    save_pictures(folder / "wide.npz", side=9)
    np.savez(folder / "unlabelled.npz", x=x)
    np.savez(folder / "outside.npz", x=x.astype(float), y=y)
    not_a_number = x / 255
    not_a_number[3, 0, 5] = np.nan
    np.savez(folder / "nan.npz", x=not_a_number, y=y)
    write_csv(folder / "tiny.csv", x[:5])
    (folder / "text.csv").write_text("a,b\n1,2\n3,blue\n")
    (folder / "picture.txt").write_text("")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "config.yaml").write_text("dataset: tiny.npz\n")
    (folder / "damaged" / "dbn.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0 nonsense")
    dbn.pretrain(torch.rand(40, 64), [9, 6], epochs=1, run=folder / "runs" / "array")
    (folder / "out").write_text(run_alone("pretrain", PRETRAIN, folder) + run_alone("finetune", FINETUNE, folder))
    return folder


def write_csv(path: Path, x: NDArray) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([f"pixel{n}" for n in range(x[0].size)] + ["kind"])
        writer.writerows([*(row.reshape(-1) / 255).tolist(), "any"] for row in x)


# Good input


def test_pretraining_says_what_came_out(folder: Path) -> None:
    out = (folder / "out").read_text().splitlines()
    assert out[0] == (
        "tiny.npz: 108 training, 12 validation and 30 test examples of 64 values in 3 classes, the test examples cut "
        "from the same rows; bytes are divided by 255."
    )
    assert [line.split()[:2] for line in out[3:5]] == [["1", "2"], ["2", "2"]]
    assert "runs/pre/dbn.safetensors" in out[5]
    assert out[6].startswith("The stack has hardly left its start: the hidden units of layers 1 and 2 give")
    finetune = shlex.quote(str(SCRIPTS / "finetune.py"))
    assert out[7] == f"Next: python {finetune} --pretrained runs/pre --run runs/pre-finetuned"
    files = {".lock", "config.yaml", "versions.json", "metrics.jsonl", "dbn.safetensors", "encoder.safetensors"}
    files |= {"checkpoint", "README.md", "validation", "codes", "projector_config.pbtxt"}
    left = {path.name for path in (folder / "runs" / "pre").iterdir()} - files
    assert left
    assert all(name.startswith("events.out.tfevents.") for name in left)
    assert load(folder / "runs" / "pre").sizes == [64, 9, 6]


def test_finetuning_prints_the_table(folder: Path) -> None:
    out = (folder / "out").read_text().splitlines()[9:]
    found = result(folder / "runs" / "fine")
    assert out[0].startswith("tiny.npz: 24 training labels, 12 for validation, 30 for testing; 2 seeds, mean ± 95 % ")
    assert [line[:22] for line in out[1:4]] == [
        "The test set is too sm",
        "Only 12 validation lab",
        "The stack has hardly l",
    ]
    lines = {line.split()[0]: line for line in out[7:9]}
    for name, arm in found["arms"].items():
        assert f"{arm['mean']:.2f} ± {arm['ci95']:.2f}" in lines[name]
    text = comparison_text(RunFolder(folder / "runs" / "fine").read_json("result.json"))
    assert out[:-2] == text.splitlines()
    assert out[-2].startswith(
        "All numbers are in runs/fine/result.json, confusion matrices in confusion.png beside it."
    )
    assert out[-1].endswith("--run runs/fine --data FILE --output predictions.csv")
    assert found["dataset"] == "tiny.npz"


def test_the_same_command_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "tiny.npz", tmp_path)
    run("pretrain", PRETRAIN, tmp_path)
    for name in ("dbn.safetensors", "encoder.safetensors", "config.yaml"):
        assert (tmp_path / "runs" / "pre" / name).read_bytes() == (folder / "runs" / "pre" / name).read_bytes()
    assert metrics(tmp_path / "runs" / "pre") == metrics(folder / "runs" / "pre")


@pytest.mark.parametrize("begin", ["data", "noise"])
def test_samples_become_a_picture(begin: str, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "samples.png"
    words = f"--run runs/pre --output {file} --count 10 --steps 3 --start {begin} --scale 2"
    first, *figures = call("sample", words, folder).splitlines()
    assert first == f"10 images after 3 Gibbs steps from {begin}: {file}"
    assert [line.partition(":")[0] for line in filter(None, figures)] == [
        "Autocorrelation with the samples one step from the start"
    ] * (begin == "data")
    with Image.open(file) as image:
        assert image.size == (3 * 17 + 1, 4 * 17 + 1)


def test_tempered_samples_say_how_far_they_can_be_trusted(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "samples.png"
    words = f"--run runs/pre --output {file} --count 12 --start tempered --steps 2 --chains 4 --temperatures 3 --draws"
    first, figures, shares = call("sample", f"{words} --classifier runs/fine", folder).splitlines()
    assert first == f"12 images of 4 chains at 3 temperatures, 2 Gibbs steps apart: {file}"
    assert re.match(r"Autocorrelation of a chain over these steps: -?\d\.\d\d; swaps accepted: \d+%, at least", figures)
    assert int(re.findall(r"worth about (\d+) independent ones\.", figures)[0]) <= 12
    found = [float(share) for share in re.findall(r"(\d+\.\d)%", shares)]
    assert shares.startswith("Classes by runs/fine: 0 ")
    assert sum(found) == pytest.approx(100, abs=0.3)
    assert shares.endswith("of at most 1.10 nats.")
    with Image.open(file) as image:
        pixels = np.asarray(image)
    assert set(np.unique(pixels)) == {0, 128, 255}  # draws of Bernoulli units and the frames
    assert image.size == (3 * 81 + 1, 4 * 81 + 1)


def test_an_image_shape_makes_images_of_rows(folder: Path, tmp_path: Path) -> None:
    words = f"--run runs/pre --output {tmp_path / 'a.png'} --count 4 --steps 1 --scale 1 --image-shape"
    call("sample", f"{words} 4x16", folder)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (2 * 17 + 1, 2 * 5 + 1)


def test_by_default_few_validation_images_make_a_small_picture(folder: Path, tmp_path: Path) -> None:
    out = call("sample", f"--run runs/pre --output {tmp_path / 'a.png'} --steps 1", folder)
    assert out.splitlines()[0] == f"12 images after 1 Gibbs steps from data: {tmp_path / 'a.png'}"
    out = call("sample", f"--run runs/pre --output {tmp_path / 'a.png'} --steps 1 --start noise", folder)
    assert out.startswith("64 images after 1 Gibbs steps from noise")


def test_sampling_as_a_script(folder: Path, tmp_path: Path) -> None:
    run("sample", f"--run runs/pre --output {tmp_path / 'a.png'} --count 4 --steps 5 --seed 3", folder)
    call("sample", f"--run runs/pre --output {tmp_path / 'b.png'} --count 4 --steps 5 --seed 3", folder)
    call("sample", f"--run runs/pre --output {tmp_path / 'c.png'} --count 4 --steps 5 --seed 4", folder)
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def probabilities(file: Path) -> tuple[list[str], NDArray]:
    with file.open() as opened:
        header, *rows = csv.reader(opened)
    return header, np.array(rows, dtype=float)


def test_predictions_are_those_of_the_best_classifier(folder: Path, tmp_path: Path) -> None:
    out = run("predict", f"--run runs/fine --data tiny.npz --output {tmp_path / 'npz.csv'}", folder)
    words = f"--run runs/fine --data tiny.csv --label-column kind --output {tmp_path / 'csv.csv'}"
    assert "No scores: none of the labels is a class of the classifier, such as '0', '1', '2'" in call(
        "predict", words, folder
    )
    arm, file = best_classifier(RunFolder(folder / "runs" / "fine"))
    said, scored = out.splitlines()
    assert said == f"150 examples classified by the arm {arm}: {tmp_path / 'npz.csv'}"
    network, description = read_classifier(file)
    x = torch.from_numpy(pictures(side=8)[0]).flatten(1)
    wanted = predict(network, Scaling.from_description(description), x).softmax(1).numpy()
    header, found = probabilities(tmp_path / "npz.csv")
    assert header == ["0", "1", "2"]
    y = pictures(side=8)[1]
    error, log_loss = 100 * (wanted.argmax(1) != y).mean(), -np.log(wanted[np.arange(150), y]).mean()
    assert scored.startswith(f"Scores on 150 labeled examples: error {error:.2f} %, balanced error {error:.2f} %, ")
    assert scored.endswith(f"log-loss {log_loss:.4g} nats.")
    np.testing.assert_allclose(found.sum(1), 1, atol=2e-6)
    np.testing.assert_array_equal(found.astype(np.float32), wanted)  # no small one is rounded to 0
    classifier = load_classifier(folder / "runs" / "fine")
    assert np.array_equal(classifier.predict_proba(pictures(side=8)[0]), wanted)
    assert classifier.predict(x) == [header[place] for place in wanted.argmax(1)]
    np.testing.assert_allclose(probabilities(tmp_path / "csv.csv")[1], wanted[:5], atol=2e-6)


def test_predictions_name_the_class_of_any_arm(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    with np.load(folder / "tiny.npz") as data:
        np.savez(tmp_path / "some.npz", x=data["x"][:6], y=[0, 1, 2, 0, 7, 2])
    words = f"--run runs/fine --data {tmp_path / 'some.npz'} --output {file} --init he_normal"
    out = call("predict", f"{words} --columns all", folder)
    assert "6 examples classified by the arm he_normal" in out
    assert "Scores on 5 labeled examples: " in out
    assert "; rows of '7', which the classifier does not know, are left out." in out
    classifier = load_classifier(folder / "runs" / "fine", init="he_normal")
    wanted = classifier.predict_proba(pictures(side=8)[0][:6])
    header, *rows = csv.reader(file.read_text().splitlines())
    assert header == ["0", "1", "2", "predicted_class", "predicted_probability"]
    assert [row[3] for row in rows] == [header[place] for place in wanted.argmax(1)]
    assert [float(row[4]) for row in rows] == pytest.approx(wanted.amax(1).tolist(), abs=1e-6)
    np.testing.assert_allclose(np.array([row[:3] for row in rows], float), wanted, atol=1e-6)
    call("predict", f"{words} --columns class", folder)
    assert list(csv.reader(file.read_text().splitlines())) == [header[3:], *(row[3:] for row in rows)]


def test_rows_that_predict_leaves_out_are_counted(folder: Path, tmp_path: Path) -> None:
    with np.load(folder / "tiny.npz") as data:
        np.savez(tmp_path / "parts.npz", x_train=data["x"][:20], x_val=data["x"][:3], x_test=data["x"][20:27])
    file = tmp_path / "parts.npz"
    out = call("predict", f"--run runs/fine --data {file} --output {tmp_path / 'a.csv'}", folder)
    assert f"{file}: the rows of x are classified; its 3 validation and 7 test rows are left out.\n" in out
    assert "20 examples classified" in out


def unlabeled_test_rows(folder: Path) -> str:
    """Files of training rows, numbered, and of test rows without labels; the words for them."""
    x, y = pictures(side=2)
    names = ",".join(["Id", *"abcd"])
    rows = [f"{n}," + ",".join(map(str, row.reshape(-1) / 255)) for n, row in enumerate(x, start=1)]
    lines = [f"{row},class{label}" for row, label in zip(rows[:120], y, strict=False)]
    (folder / "train.csv").write_text("\n".join([f"{names},kind", *lines]))
    (folder / "test.csv").write_text("\n".join([names, *rows[120:]]))
    return "--dataset train.csv --test-file test.csv --label-column kind"


def test_test_rows_without_labels_serve_no_fine_tuning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = unlabeled_test_rows(tmp_path)
    out = call("pretrain", f"{words} --visible gaussian --hidden 3 --epochs 1 --run pre", tmp_path)
    assert "108 training, 12 validation and 30 test examples" in out
    assert " The column 'Id' numbers the rows and is taken for a value of them: remove it if it is none.\n" in out
    with pytest.raises(SystemExit) as stop:
        call("finetune", "--pretrained pre --run fine", tmp_path)
    assert stop.value.code == 2
    assert "train.csv: the test rows have no labels, and fine-tuning scores on them" in capsys.readouterr().err
    assert not (tmp_path / "fine").exists()


def test_the_next_command_names_the_mark_of_rows_without_a_label(tmp_path: Path) -> None:
    x, y = pictures(side=2)
    np.savez(tmp_path / "marked.npz", x=x, y=np.where(np.arange(len(y)) % 4, -1, y))
    out = call("pretrain", "--dataset marked.npz --hidden 3 --epochs 1 --run pre", tmp_path)
    assert "if it stands for no label, say --unlabeled -1" in out
    (words,) = re.findall("^Next: .*finetune(?:.py)? (.*)$", out, re.MULTILINE)
    assert words == "--pretrained pre --run pre-finetuned --unlabeled -1"
    out = call("finetune", f"{words} --seeds 1 --epochs 1 --init dbn", tmp_path)
    assert "validation examples have labels, the others have none" in out


def test_features_row_by_row(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "out.npy"
    assert run("features", f"--run runs/pre --data tiny.npz --output {file} --layer 1", folder) == (
        f"features of 150 examples: {file}\n"
    )
    stack = load(folder / "runs" / "pre")
    v = stack.scale(torch.from_numpy(pictures(side=8)[0]).flatten(1))
    np.testing.assert_allclose(np.load(file), stack.up(v, 1).detach().numpy(), atol=1e-6)
    file = tmp_path / "out.csv"
    words = f"--run runs/pre --data tiny.csv --label-column kind --output {file} --binarize threshold"
    out = call("features", f"{words} --write features free-energy log-likelihood pseudo-likelihood", folder)
    assert out.splitlines()[:2] == ["tiny.csv: gray levels are cut at 0.5 (--binarize threshold).", out.splitlines()[1]]
    assert out.splitlines()[1].startswith("log Z is exact: ")
    header, rows = probabilities(file)
    assert header == [
        *(f"features_{n}" for n in range(1, 7)),
        "free_energy",
        "pseudo_likelihood",
        "log_likelihood_bound",
    ]
    np.testing.assert_allclose(rows[:, :6], stack.up(v[:5]).detach().numpy(), atol=1e-6)


# Going on, and beginning again


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file, events and what depends on the clock aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tfevents" not in path.name
    }


def test_resuming_what_is_finished_changes_nothing(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = snapshot(tmp_path), sorted(tmp_path.rglob("*"))
    out = run("pretrain", f"{PRETRAIN} --resume", tmp_path)
    assert re.fullmatch(r"This run is complete, and nothing was done: the stack is in runs/pre/dbn\.safe.*\n", out)
    *table, empty, sentence = run("finetune", "--resume --run runs/fine", tmp_path).splitlines()
    assert table == (tmp_path / "out").read_text().splitlines()[9:-2]
    assert (empty, sentence) == (
        "",
        "This run is complete, and nothing was done: all numbers are in runs/fine/result.json.",
    )
    assert (snapshot(tmp_path), sorted(tmp_path.rglob("*"))) == before


@pytest.mark.parametrize("spoil", [lambda data: None, lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_a_classifier_that_is_gone_or_damaged_is_written_again(
    spoil: Callable[[bytes], bytes | None], folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = snapshot(tmp_path)
    (file,) = (tmp_path / "runs" / "fine" / "dbn").rglob("classifier.safetensors")
    data = spoil(file.read_bytes())
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    assert "nothing was done" not in run("finetune", "--resume --run runs/fine", tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seeds": [0], "arms": {"a": null}}', '{"seeds": 1}'])
def test_a_damaged_result_is_no_table(
    text: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "runs" / "fine" / "result.json").write_text(text)
    with pytest.raises(SystemExit) as stop:
        call("finetune", "--resume --run runs/fine", tmp_path)
    assert stop.value.code == 2
    assert re.fullmatch(r"finetune\.py: error: runs/fine/result\.json is damaged [^\n]*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text + "\tseed: 1\n", "runs/pre/config.yaml is not valid YAML at line"),
        (lambda text: text.replace("epochs", "epoch"), "unknown option epoch in runs/pre/config.yaml, line"),
        (lambda text: text.replace("hidden:", "hidden: 3\nx:"), "runs/pre/config.yaml"),
        (lambda text: text.replace("seed: 0", "seed: many"), "runs/pre/config.yaml is damaged: --seed must be a whole"),
        (lambda text: text.replace("seed: 0", "seed: -1"), "runs/pre/config.yaml is damaged: --seed must be a whole"),
        (lambda text: text[: len(text) // 2] + "\xff", "runs/pre/config.yaml"),
        (lambda text: "", "runs/pre/config.yaml holds no options"),
    ],
)
def test_options_that_are_damaged_in_the_run_folder_are_blamed_on_it(
    spoil: Callable[[str], str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "runs" / "pre" / "config.yaml"
    file.write_text(spoil(file.read_text()), encoding="latin-1")
    with pytest.raises(SystemExit) as stop:
        call("pretrain", "--resume --run runs/pre", tmp_path)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("pretrain.py: error: ")
    assert said in err
    assert "--config" not in err


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    save_pictures(tmp_path / "tiny.npz")
    words = "--dataset tiny.npz --hidden 9 6 --epochs 40 --picture-every 25"
    process = start("pretrain", f"{words} --run killed", tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "checkpoint" / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < len(metrics(tmp_path / "killed")) < 80
    call("pretrain", f"{words} --run killed --resume", tmp_path)
    call("pretrain", f"{words} --run whole", tmp_path)
    for name in ("dbn.safetensors", "encoder.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


def test_overwriting(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    call("pretrain", f"{PRETRAIN} --seed 9 --overwrite", tmp_path)
    weights = [load(each / "runs" / "pre").layers[0].weight for each in (folder, tmp_path)]
    assert (weights[0] != weights[1]).any()
    assert len(metrics(tmp_path / "runs" / "pre")) == 4
    call("finetune", f"{FINETUNE} --seed 7 --overwrite", tmp_path)
    assert result(tmp_path / "runs" / "fine")["seeds"] == [7, 8]
    names = {path.name for path in (tmp_path / "runs" / "fine" / "dbn").iterdir()}
    assert names == {"seed-7", "seed-8"}


# Bad input


def call(name: str, words: str, folder: Path) -> str:
    """The script in this process, for speed; what it prints. SystemExit as from the script."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [f"scripts/{name}.py", *words.split()])
        import_module(f"dbn.cli.commands.{name}").COMMAND.run()
    return out.getvalue()


BAD: dict[str, list[tuple[str, str]]] = {
    "pretrain": [
        ("--hiden 5", "--hiden"),
        ("--hidden five", "--hidden must be a whole number"),
        ("--epochs 0", "--epochs must be a whole number of at least 1, not 0"),
        ("--dataset missing.npz --run new", "missing.npz does not exist"),
        ("--dataset outside.npz --run new", r"values go from .* in \[0, 1\]: divide them, with --divisor 255"),
        ("--dataset nan.npz --run new", "nan.npz.*nan"),
        (
            "--dataset text.csv --run new",
            "text.csv, line 3, column 'b': 'blue' is not a number: .* leave the row or the column out",
        ),
        ("--dataset picture.txt --run new", "picture.txt: files must end in"),
        ("--dataset tiny.npz --device cuda:77 --run new", "--device cuda:77 is not available here"),
        ("--dataset tiny.npz --run picture.txt", "picture.txt cannot be made a run folder"),
        ("--dataset tiny.npz --run damaged --overwrite", "does not look like a run of dbn and is not overwritten"),
        (
            PRETRAIN,
            "runs/pre exists already: continue it with --resume, replace it with --overwrite, or name another --run",
        ),
        (
            f"{PRETRAIN} --resume --batch-size 7",
            "was started with --batch-size 40 .now 7.: resume it with the same, or start again",
        ),
        (f"{PRETRAIN} --resume --run new", "there is no run folder new"),
        (
            "--dataset tiny.npz --momentum 0.5 --optimizer adam --run new",
            "--momentum does not go with --optimizer adam",
        ),
    ],
    "finetune": [
        (FINETUNE, "runs/fine exists already"),
        (f"{FINETUNE} --run new --pretrained missing", "missing holds no stack"),
        (f"{FINETUNE} --run new --pretrained damaged", "damaged/dbn.safetensors is damaged or of another kind"),
        (f"{FINETUNE} --run new --pretrained runs/array", "runs/array was trained on arrays in memory.* --dataset"),
        (f"{FINETUNE} --run new --dataset wide.npz", "wide.npz has 81 values an example, but the stack takes 64"),
        (f"{FINETUNE} --run new --dataset unlabelled.npz", "unlabelled.npz has no labels"),
        (f"{FINETUNE} --run new --init dbn hee_normal", "no initializer 'hee_normal', did you mean 'he_normal'"),
        (f"{FINETUNE} --run new --init lsuv(bias=1e9)", "lsuv: no scale brings the outputs of hidden layer 1"),
        (f"{FINETUNE} --run new --init dbn:swish", "'dbn:swish' has no known activation"),
        (f"{FINETUNE} --run new --labels 500", "--labels 500 is more than the 108 training examples"),
        (f"{FINETUNE} --run new --labels 2", "--labels 2 is fewer than the 3 classes"),
        (f"{FINETUNE} --run new --valid-labels 500", "--valid-labels 500 is more than the 12 validation examples"),
        ("--dataset tiny.npz --hidden 5 --run new", "--init dbn needs --pretrained"),
        ("--dataset tiny.npz --init he_normal --run new", "--hidden is needed where --pretrained is not given"),
        (f"{FINETUNE} --resume --epochs 3", "was started with --epochs 2 .now 3.: resume it with the same"),
        (f"{FINETUNE} --resume --overwrite", "--resume does not go with --overwrite"),
    ],
    "sample": [
        (f"{SAMPLE} --run missing", "missing holds no stack"),
        (f"{SAMPLE} --run damaged", "damaged/dbn.safetensors is damaged"),
        (f"{SAMPLE} --run runs/array", "--image-shape, such as 8x8, or use dbn.load"),
        (f"{SAMPLE} --image-shape 5x5", "--image-shape 5x5 has 25 values, but runs/pre was trained on rows of 64"),
        (f"{SAMPLE} --count 3 --classifier missing", "there is no|missing"),
        (f"{SAMPLE} --run runs/fine", "runs/fine holds no stack"),
        (f"{SAMPLE} --count 13", "--count 13 is more than the 12 validation rows .* --start tempered"),
        (f"{SAMPLE} --steps 0", "--steps must be a whole number of at least 1"),
        (f"{SAMPLE} --steps 2 --count 4 --output picture.txt/a.png", "picture.txt cannot be made"),
        ("--run runs/pre", "--output is required"),
    ],
    "predict": [
        (f"{PREDICT} --data missing.npz", r"missing.npz does not exist, check the path$"),
        (f"{PREDICT} --data wide.npz", "wide.npz has 81 values an example, but the classifier takes 64"),
        (f"{PREDICT} --data nan.npz", "nan.npz.*nan"),
        (f"{PREDICT} --data outside.npz", r"outside.npz has values from 0 to 2\d\d, .* but .* \[0, 1\]"),
        (f"{PREDICT} --data tiny.csv", "tiny.csv, line 2, column 'kind': 'any' is not a number"),
        (f"{PREDICT} --data tiny.npz --run missing", "there is no run folder missing"),
        (f"{PREDICT} --data tiny.npz --run runs/pre", "runs/pre is no finished run of finetune"),
        (f"{PREDICT} --data tiny.npz --output picture.txt/out.csv", "picture.txt cannot be made"),
        (f"{PREDICT} --data tiny.npz --init he_norml", "runs/fine has no arm 'he_norml', did you mean 'he_normal'"),
        (f"{PREDICT} --data tiny.npz --columns classes", "--columns must be"),
        (f"{PREDICT} --data tiny.npz --output out.parquet", "out.parquet must end in .csv, the only format"),
        (f"{PREDICT} --data tiny.npz --divisor max", "leave it out for that of training$"),
    ],
    "features": [
        (f"{FEATURES} --data wide.npz", "wide.npz has 81 values an example, but the stack takes 64"),
        (f"{FEATURES} --data outside.npz", r"outside.npz has values from 0 to 2\d\d, .* but"),
        (f"{FEATURES} --data tiny.npz --layer 3", "--layer 3 is none of the 2 layers"),
        (f"{FEATURES} --data tiny.npz --write log-likelihood", "no log-probability: say how .* --binarize threshold"),
        (f"{FEATURES} --data tiny.npz --write everything", "--write must be"),
        (f"{FEATURES} --data tiny.npz --output out.txt", "must end in .csv, .npy or .npz"),
        (
            f"{FEATURES} --data tiny.npz --output a.npy --write features free-energy",
            "a.npy holds one array: .* or one of --write$",
        ),
        (f"{FEATURES} --data tiny.npz --run runs/fine", "runs/fine holds no stack"),
    ],
}


@pytest.mark.parametrize(
    ("name", "words", "sentence"), [(name, *case) for name, cases in BAD.items() for case in cases]
)
def test_bad_input_ends_in_one_sentence_and_writes_nothing(
    name: str, words: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(folder), sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        call(name, words, folder)
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert re.fullmatch(rf"{name}\.py: error: [^\n]*\n", err)
    assert re.search(sentence, err), err
    assert (snapshot(folder), sorted(folder.rglob("*"))) == before


def test_bad_input_to_the_script_itself(folder: Path) -> None:
    with start("finetune", f"{FINETUNE} --run new --labels 2", folder) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("finetune.py: error: ")
    assert (err.count("\n"), "Traceback" in err) == (1, False)
    assert not (folder / "new").exists()


def test_divergence_is_a_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "tiny.npz", tmp_path)
    with pytest.raises(SystemExit) as stop:
        call("pretrain", "--dataset tiny.npz --visible gaussian --hidden 5 --learning-rate 1e6 --run new", tmp_path)
    assert stop.value.code == 2
    assert "layer 1 diverged in epoch 1" in capsys.readouterr().err
    assert not [thread for thread in threading.enumerate() if "Writer" in type(thread).__name__]
