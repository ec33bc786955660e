"""Configurations, the command line that makes them, and the YAML file that stands for one."""

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from dbn.cli.command_line import parse
from dbn.cli.options import options_of
from dbn.config.common import DataConfig, to_dict
from dbn.config.evaluation import EvaluateConfig
from dbn.config.finetuning import FinetuneConfig, Finetuning
from dbn.config.inference import PredictConfig, SampleConfig
from dbn.config.pretraining import PretrainConfig, Pretraining
from dbn.config.study import StudyConfig
from dbn.errors import InputError

CLASSES = [PretrainConfig, FinetuneConfig, EvaluateConfig, SampleConfig, PredictConfig, StudyConfig]
SAMPLE = ["--run", "r", "--output", "o.png"]
MANY = (9000, 784)
"""Rows and columns from which on the defaults are constants."""
ALONE = ["--init", "he_normal", "--dataset", "mnist", "--hidden", "9"]


@pytest.fixture(autouse=True)
def program(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["scripts/pretrain.py"])
    monkeypatch.chdir(tmp_path)


def read(config_class, *words):
    return parse(config_class, words, description="Words about it.")


def refusal(capsys, config_class, *words):
    """The sentence of a refused command line, without the program's name in front."""
    with pytest.raises(SystemExit) as stop:
        read(config_class, *words)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert err.startswith("pretrain.py: error: ")
    return err.removeprefix("pretrain.py: error: ").strip()


def to_yaml(config):
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def write(text):
    Path("options.yaml").write_text(text, encoding="utf-8")
    return ["--config", "options.yaml"]


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("", {}),
        ("--hidden 20 10 --epochs 3 4", {"hidden": (20, 10), "epochs": (3, 4)}),
        ("--hidden=20 --batch_size=7", {"hidden": (20,), "batch_size": 7}),
        ("--learning-rate 1e-2 --momentum .9", {"learning_rate": (0.01,), "momentum": 0.9}),
        ("--learning-rate 1e-2 0.1 1", {"learning_rate": (0.01, 0.1, 1.0)}),
        ("--optimizer rmsprop --momentum 0", {"optimizer": "rmsprop", "momentum": 0.0}),
        ("--seed 1 --seed 2", {"seed": 2}),
        ("--hidden 1 2 3 --hidden 4", {"hidden": (4,)}),
        ("--visible gaussian --features sample", {"visible": "gaussian", "features": "sample"}),
        ("--binarize fixed --momentum 0.5,0.9@3", {"binarize": "fixed", "momentum": "0.5,0.9@3"}),
        ("--learning-rate .1:0 --gibbs-steps 1,3@10", {"learning_rate": (".1:0",), "gibbs_steps": ("1,3@10",)}),
        ("--estimator pt --chains 7 --temperatures 5", {"estimator": "pt", "chains": 7, "temperatures": 5}),
        ("--centered --average 0.99 --precision bf16", {"centered": True, "average": 0.99, "precision": "bf16"}),
        ("--weight-decay 0 --gibbs-steps 10", {"weight_decay": 0.0, "gibbs_steps": (10,)}),
    ],
)
def test_training_options(words, changed):
    assert read(PretrainConfig, *words.split()).training == dataclasses.replace(Pretraining(), **changed)


def test_options_outside_training():
    words = ["--run=-x", "--resume", "--device", "cuda:1", "--dataset", "a b.csv", "--label-column", "y"]
    config = read(PretrainConfig, *words)
    assert (config.run, config.resume, config.overwrite, config.device) == (Path("-x"), True, False, "cuda:1")
    assert config.data == DataConfig(dataset="a b.csv", label_column="y")
    assert type(config) is PretrainConfig
    assert read(PretrainConfig, "--resume", "--no-resume").resume is False


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ([*ALONE, "--freeze-epochs", "all"], "freeze_epochs", "all"),
        ([*ALONE, "--freeze-epochs", "3"], "freeze_epochs", 3),
        ([*ALONE, "--refit"], "refit", True),
        ([*ALONE, "--labels", "300", "--seeds", "2"], "labels", 300),
        ([*ALONE, "--schedule", "constant"], "schedule", "constant"),
        ([*ALONE, "--schedule", "1,0.1@20,0.01@30"], "schedule", "1,0.1@20,0.01@30"),
        ([*ALONE, "--layer-rates", "0.1", ".3", "1"], "layer_rates", (0.1, 0.3, 1.0)),
        ([*ALONE, "--input-dropout", "0.2"], "input_dropout", 0.2),
        ([*ALONE, "--hidden-dropout", "0"], "hidden_dropout", 0.0),
        ([*ALONE, "--max-norm", "3.5"], "max_norm", 3.5),
        ([*ALONE, "--average", ".99"], "average", 0.99),
        (["--pretrained", "a", "b", "--seeds", "2"], "init", ("dbn", "xavier_uniform", "he_normal")),
        (["--pretrained", "a", "--init", "dbn:tanh", "he_normal"], "init", ("dbn:tanh", "he_normal")),
    ],
)
def test_finetuning_options(words, name, value):
    assert getattr(read(FinetuneConfig, *words).training, name) == value


@pytest.mark.parametrize(
    ("config_class", "words", "expected"),
    [
        (PretrainConfig, "--hiden 3", "unknown option --hiden, did you mean --hidden?"),
        (PretrainConfig, "--zzz 3", "unknown option --zzz: see --help"),
        (PretrainConfig, "--no-seed", "unknown option --no-seed"),
        (PretrainConfig, "-q", "unknown option -q"),
        (PretrainConfig, "--", "unknown option --:"),
        (PretrainConfig, "junk --seed 3", "unexpected argument 'junk'"),
        (PretrainConfig, "--seed 3 4", "--seed takes one value, a whole number: got an extra value '4'"),
        (PretrainConfig, "--seed", "--seed needs a value, a whole number"),
        (PretrainConfig, "--seed=", "--seed has an empty value"),
        (PretrainConfig, "--resume yes", "--resume takes no value: got an extra value 'yes'"),
        (PretrainConfig, "--resume=true", "--resume takes no value"),
        (PretrainConfig, "--resume --overwrite", "--resume does not go with --overwrite"),
        (PretrainConfig, "--hidden", "--hidden needs at least one value"),
        (PretrainConfig, "--hidden 5 a", "--hidden must be a whole number, or several, not '5 a'"),
        (PretrainConfig, "--hidden 5.5", "--hidden must be a whole number"),
        (PretrainConfig, "--hidden 5 0", "--hidden must be a whole number of at least 1, not 0"),
        (PretrainConfig, "--epochs 1 2", "--epochs takes one value or one a layer (3), not 2"),
        (PretrainConfig, "--epochs 0", "--epochs must be a whole number of at least 1, not 0"),
        (PretrainConfig, "--gibbs-steps 1 2 3 4", "--gibbs-steps takes one value or one a layer"),
        (PretrainConfig, "--gibbs-steps -1", "--gibbs-steps must be a whole number of at least 1, not -1"),
        (PretrainConfig, "--batch-size 0", "--batch-size must be a whole number of at least 1, not 0"),
        (PretrainConfig, "--batch-size many", "--batch-size must be a whole number, not 'many'"),
        (PretrainConfig, "--learning-rate 0", "--learning-rate must be a number above 0, not 0.0"),
        (PretrainConfig, "--learning-rate inf", "--learning-rate must be a number above 0, not inf"),
        (PretrainConfig, "--learning-rate nan", "--learning-rate must be a number above 0, not nan"),
        (PretrainConfig, "--learning-rate 1,2", "--learning-rate must be a number above 0, or a schedule such as"),
        (PretrainConfig, "--learning-rate fast", "--learning-rate must be a number above 0, or a schedule such as"),
        (PretrainConfig, "--learning-rate .1:.2:.3", "--learning-rate must be a number above 0, or a schedule"),
        (PretrainConfig, "--learning-rate .1,.2@1", "--learning-rate must be a number above 0, or a schedule"),
        (PretrainConfig, "--learning-rate .1,0@5", "--learning-rate must be a number above 0, not '.1,0@5'"),
        (PretrainConfig, "--learning-rate 0:0.1", "--learning-rate must be a number above 0, not '0:0.1'"),
        (PretrainConfig, "--learning-rate 0:0", "--learning-rate must be a number above 0, not '0:0'"),
        (PretrainConfig, "--gibbs-steps 5:0", "--gibbs-steps must be a whole number of at least 1, not '5:0'"),
        (PretrainConfig, "--gibbs-steps 1,1.5@3", "--gibbs-steps must be a whole number of at least 1, not"),
        (PretrainConfig, "--momentum .5,1@3", "--momentum must be at least 0 and below 1, not '.5,1@3'"),
        (PretrainConfig, "--chains 9", "--chains does not go with --estimator cd"),
        (PretrainConfig, "--estimator pcd --chains 0", "--chains must be a whole number of at least 1, not 0"),
        (PretrainConfig, "--estimator pcd --temperatures 5", "--temperatures does not go with --estimator pcd"),
        (PretrainConfig, "--sparsity-cost 1", "--sparsity-cost needs --sparsity-target"),
        (PretrainConfig, "--sparsity-target 1", "--sparsity-target must be between 0 and 1, not 1.0"),
        (PretrainConfig, "--penalty l1(a=1", "--penalty: invalid penalty 'l1(a=1': expected NAME or NAME(PARAMETER="),
        (PretrainConfig, "--penalty l1(1)(2)", "--penalty: invalid penalty 'l1(1)(2)'"),
        (PretrainConfig, "--penalty sparsty", "--penalty: there is no penalty 'sparsty', did you mean 'sparsity'?"),
        (PretrainConfig, "--max-norm 0", "--max-norm must be a number above 0, not 0.0"),
        (PretrainConfig, "--average 1", "--average must be between 0 and 1, not 1.0"),
        (PretrainConfig, "--learning-rate .1 .1", "--learning-rate takes one value or one a layer"),
        (PretrainConfig, "--estimator tap", "--estimator must be one of cd, pcd, lagged-pcd, pt, class-pcd, not 'tap'"),
        (PretrainConfig, "--optimizer lion", "--optimizer must be one of sgd, adam, adamw, rmsprop"),
        (PretrainConfig, "--optimizer adam --momentum .9", "--momentum does not go with --optimizer adam"),
        (PretrainConfig, "--momentum 1", "--momentum must be at least 0 and below 1, not 1.0"),
        (PretrainConfig, "--momentum -inf", "--momentum must be at least 0 and below 1, not -inf"),
        (
            PretrainConfig,
            "--momentum .1 .2",
            "--momentum takes one value, a number or a schedule: got an extra value '.2'",
        ),
        (PretrainConfig, "--weight-decay -1", "--weight-decay must be a number of at least 0, not -1.0"),
        (PretrainConfig, "--weight-decay nan", "--weight-decay must be a number of at least 0, not nan"),
        (
            PretrainConfig,
            "--visible poisson",
            "--visible must be one of bernoulli, binomial, gaussian, relu, drelu, spin, categorical, auto, not "
            "'poisson'",
        ),
        (PretrainConfig, "--visible gaussian --binarize fixed", "--binarize fixed does not go with --visible"),
        (PretrainConfig, "--measure-every 0", "--measure-every must be a whole number of at least 1"),
        (PretrainConfig, "--picture-every 0", "--picture-every must be a whole number of at least 1"),
        (PretrainConfig, "--seed -1", "--seed must be a whole number of at least 0, not -1"),
        (PretrainConfig, "--device gpu", "--device must be auto, cpu, cuda, cuda:N or mps, not 'gpu'"),
        (PretrainConfig, "--device cuda:x", "--device must be"),
        (PretrainConfig, "--config", "--config needs a value, a path"),
        (
            PretrainConfig,
            "--config none.yaml",
            "--config none.yaml is neither a file nor a recipe: torch-dbn recipes lists",
        ),
        (FinetuneConfig, "", "--init dbn needs --pretrained"),
        (FinetuneConfig, "--init he_normal dbn:tanh", "--init dbn needs --pretrained"),
        (FinetuneConfig, "--init he_normal --hidden 9", "--dataset is needed where --pretrained is not"),
        (FinetuneConfig, "--init he_normal --dataset usps", "--hidden is needed where --pretrained is not"),
        (FinetuneConfig, "--pretrained a --hidden 9", "--hidden does not go with --pretrained"),
        (FinetuneConfig, "--pretrained a b", "--pretrained takes one value or one a seed (5), not 2"),
        (FinetuneConfig, "--pretrained a a --seeds 2", "--pretrained names a more than once"),
        (FinetuneConfig, "--pretrained a --init dbn dbn", "--init names dbn more than once"),
        (FinetuneConfig, "--pretrained a --init", "--init needs at least one value"),
        (FinetuneConfig, "--pretrained a --learning-rate .1 .10", "--learning-rate names 0.1 more than once"),
        (FinetuneConfig, "--pretrained a --seeds 0", "--seeds must be a whole number of at least 1, not 0"),
        (FinetuneConfig, "--pretrained a --labels 1", "--labels must be a whole number of at least 2, not 1"),
        (FinetuneConfig, "--pretrained a --labels None", "--labels must be a whole number, not 'None'"),
        (FinetuneConfig, "--pretrained a --valid-labels 0", "--valid-labels must be a whole number of at"),
        (FinetuneConfig, "--pretrained a --patience 0", "--patience must be a whole number of at least 1"),
        (FinetuneConfig, "--pretrained a --freeze-epochs some", "--freeze-epochs must be a whole number or all"),
        (FinetuneConfig, "--pretrained a --freeze-epochs -1", "--freeze-epochs must be a whole number of at"),
        (
            FinetuneConfig,
            "--pretrained a --momentum .5 .9",
            "--momentum takes one value, a number: got an extra value '.9'",
        ),
        (FinetuneConfig, "--pretrained a --optimizer nadam --momentum 0", "--momentum does not go with"),
        (
            FinetuneConfig,
            "--pretrained a --schedule step",
            "--schedule must be constant, cosine or a factor above 0, or a schedule such as 0.1:0 or 1,3@10, not",
        ),
        (FinetuneConfig, "--pretrained a --schedule 1,0@9", "--schedule must be constant, cosine or a factor above 0,"),
        (FinetuneConfig, "--pretrained a --schedule", "--schedule needs a value, one of constant, cosine or a"),
        (FinetuneConfig, "--pretrained a --layer-rates", "--layer-rates needs at least one value"),
        (FinetuneConfig, "--pretrained a --layer-rates 1 0", "--layer-rates must be a number above 0, not 0.0"),
        (FinetuneConfig, "--pretrained a --max-norm 0", "--max-norm must be a number above 0, not 0.0"),
        (FinetuneConfig, "--pretrained a --input-dropout 1", "--input-dropout must be at least 0 and below 1, not"),
        (FinetuneConfig, "--pretrained a --hidden-dropout -.1", "--hidden-dropout must be at least 0 and below 1, not"),
        (
            FinetuneConfig,
            "--pretrained a --hidden-dropout .1 .2",
            "--hidden-dropout takes one value, a number: got an extra value '.2'",
        ),
        (FinetuneConfig, "--pretrained a --average 1", "--average must be between 0 and 1, not 1.0"),
        (SampleConfig, "--run r", "--output is required"),
        (SampleConfig, "--output o.png", "--run is required"),
        (SampleConfig, "--run r --output o.jpg", "--output o.jpg must end in .png"),
        (SampleConfig, "--run r --output o.png --count 0", "--count must be a whole number of at least 1"),
        (SampleConfig, "--run r --output o.png --steps x", "--steps must be a whole number, not 'x'"),
        (
            SampleConfig,
            "--run r --output o.png --start zero",
            "--start must be one of data, noise, tempered, not 'zero'",
        ),
        (SampleConfig, "--run r --output o.png --chains 4", "--chains does not go with --start data: leave it out"),
        (
            SampleConfig,
            "--run r --output o.png --image-shape 8",
            "--image-shape must be HEIGHTxWIDTH or CHANNELSxHEIGHT",
        ),
        (SampleConfig, "--run r --output o.png --resume", "unknown option --resume"),
        (PredictConfig, "--run r --output o", "--data is required"),
        (PredictConfig, "--run r --output o --data d --device 0", "--device must be"),
    ],
)
def test_refused_command_lines(capsys, config_class, words, expected):
    assert refusal(capsys, config_class, *words.split()).startswith(expected)


def test_refusals_do_not_depend_on_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10")
    assert refusal(capsys, FinetuneConfig, "--pretrained", "a", "--valid-labels", "x").startswith("--valid-labels")
    said = refusal(capsys, FinetuneConfig, "--pretrained", "a" * 200, "--learning-rate", "0")
    assert said == "--learning-rate must be a number above 0, not 0.0"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("learning_rate: 1e-2", "learning_rate", (0.01,)),
        ("learning-rate: [1e-2, .1, 1]", "learning_rate", (0.01, 0.1, 1.0)),
        ("hidden:\n- 20\n- 10", "hidden", (20, 10)),
        ("hidden: 20", "hidden", (20,)),
        ("batch_size: 7", "batch_size", 7),
        ("momentum: null", "momentum", None),
        ("momentum:", "momentum", None),
        ("seed: &a 5\nwarmup_epochs: *a", "warmup_epochs", 5),
        ("gibbs_steps: 1,3@10,10@40", "gibbs_steps", ("1,3@10,10@40",)),
        ("gibbs_steps: [1, '1,3@10', 5]", "gibbs_steps", (1, "1,3@10", 5)),
        ("learning_rate: 0.1:0", "learning_rate", ("0.1:0",)),
        ("visible: 'gaussian'  # as measured", "visible", "gaussian"),
    ],
)
def test_files(text, name, value):
    assert getattr(read(PretrainConfig, *write(text)).training, name) == value


def test_words_of_a_file_stay_words():
    config = read(PretrainConfig, *write("dataset: no\nrun: -x\nlabel_column: 007\nresume: on\noverwrite: No"))
    assert (config.data.dataset, config.run, config.data.label_column) == ("no", Path("-x"), "007")
    assert (config.resume, config.overwrite) == (True, False)


@pytest.mark.parametrize(
    ("words", "hidden", "resume"),
    [
        ("", (20, 10), True),
        ("--hidden 5", (5,), True),
        ("--hidden=5 6 7", (5, 6, 7), True),
        ("--no_resume", (20, 10), False),
    ],
)
@pytest.mark.parametrize("file_first", [True, False])
def test_flags_win_over_the_file(words, hidden, resume, file_first):
    file = write("hidden: [20, 10]\nresume: true\nseed: 4")
    config = read(PretrainConfig, *(file + words.split() if file_first else words.split() + file))
    assert (config.training.hidden, config.resume, config.training.seed) == (hidden, resume, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nhiden: 3", "unknown option hiden in options.yaml, line 2, did you mean --hidden?"),
        ("config: other.yaml", "unknown option config in options.yaml, line 1"),
        ("no-resume: true", "unknown option no-resume in options.yaml"),
        ("[1, 2]: 3", "a key is not the name of an option in options.yaml, line 1"),
        ("<<: {seed: 3}", "unknown option <<"),
        ("seed: 1\nhidden: 4\nseed: 1", "--seed is given twice in options.yaml, line 3"),
        ("batch-size: 1\nbatch_size: 2", "--batch-size is given twice in options.yaml, line 2"),
        ("training:\n  seed: 3", "unknown option training"),
        ("seed: {a: 3}", "--seed holds nested values in options.yaml, line 1"),
        ("hidden: [[1], 2]", "--hidden holds nested values"),
        ("seed: [1]", "--seed must be a whole number, not the list ['1'] in options.yaml, line 1"),
        ("hidden: [1, --overwrite]", "--hidden must be a whole number, or several, not the list"),
        ("hidden: [1, '']", "--hidden has an empty value in options.yaml"),
        ("hidden: []", "--hidden needs at least one value"),
        ("hidden: [1, null]", "--hidden must be a whole number, or several, not '1 null'"),
        ("run: ''", "--run has an empty value in options.yaml"),
        ("resume: 1", "--resume must be true or false in options.yaml, line 1"),
        ("resume: [true]", "--resume must be true or false"),
        (
            "hidden: 4\nseed: many",
            "--seed must be a whole number, not 'many' in options.yaml, line 2: change it there, or give --seed",
        ),
        ("hidden: 4\nepochs: [1, 2]", "--epochs takes one value or one a layer (1), not 2 in options.yaml, line 2"),
        ("batch_size: 0", "--batch-size must be a whole number of at least 1, not 0 in options.yaml, line 1: change"),
        ("labels: 10", "--config options.yaml holds options of torch-dbn finetune, not of pretrain: name another file"),
        ("batch_size: true", "--batch-size must be a whole number, not 'true'"),
        ("weight_decay: .nan", "--weight-decay must be a number, not '.nan'"),
        ("visible: gaussian\nbinarize: fixed", "--binarize fixed does not go with --visible"),
        ("- seed", "--config options.yaml holds no options"),
        ("seed", "--config options.yaml holds no options"),
        ("", "--config options.yaml holds no options"),
        ("seed: 1\nhidden: [1", "--config options.yaml is not valid YAML at line 2"),
        ("seed: 1\n\tx: 2", "--config options.yaml is not valid YAML at line 2"),
        ("a: *b", "--config options.yaml is not valid YAML at line 1"),
        ("seed: 1\n---\nseed: 2", "--config options.yaml is not valid YAML at line 2"),
        ("seed: \x00", "--config options.yaml is not valid YAML"),
        ("seed: !!python/object/apply:os.getcwd []", "--seed must be a whole number, not the list"),
    ],
)
def test_refused_files(capsys, text, expected):
    assert refusal(capsys, PretrainConfig, *write(text)).startswith(expected)


def test_an_option_of_the_command_line_is_not_blamed_on_the_file(capsys):
    said = refusal(capsys, PretrainConfig, *write("hidden: 4\nepochs: [1, 2]"), "--hidden", "5", "6", "7")
    assert said.startswith("--epochs takes one value or one a layer (3), not 2 in options.yaml, line 2: change it")
    assert refusal(capsys, PretrainConfig, *write("seed: 3"), "--seed", "x").endswith("not 'x'")


def test_a_file_that_is_no_text(capsys):
    Path("bytes.yaml").write_bytes(b"\xff\xfe\x80")
    said = refusal(capsys, PretrainConfig, "--config", "bytes.yaml")
    assert said == "--config bytes.yaml cannot be read: it is not UTF-8 text"
    assert refusal(capsys, PretrainConfig, "--config", ".") == "--config . cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("config_class", "words"),
    [
        (PretrainConfig, []),
        (PretrainConfig, ["--hidden", "30", "20", "--epochs", "1", "2", "--weight-decay", "1e-7"]),
        (PretrainConfig, ["--visible", "gaussian", "--optimizer", "adam", "--dataset", "null"]),
        (PretrainConfig, ["--run", "runs/ä: b #1", "--data-dir", "12", "--momentum", "0.3"]),
        (FinetuneConfig, ["--pretrained", "a", "b", "--seeds", "2", "--freeze-epochs", "all", "--refit"]),
        (FinetuneConfig, [*ALONE, "--learning-rate", "1e-3", ".1", "--labels", "1000"]),
        (FinetuneConfig, [*ALONE, "--schedule", "1:0", "--layer-rates", "1", "2", "--average", ".9"]),
        (FinetuneConfig, [*ALONE, "--schedule", "0.5", "--input-dropout", "1e-1", "--hidden-dropout", "0.5"]),
        (SampleConfig, [*SAMPLE, "--start", "noise"]),
        (PredictConfig, ["--run", "r", "--data", "x.csv", "--output", "o.csv"]),
    ],
)
def test_yaml_makes_the_same_configuration_again(config_class, words):
    config = read(config_class, *words)
    again = read(config_class, *write(to_yaml(config)))
    assert to_dict(again) == to_dict(config) == yaml.safe_load(to_yaml(config))
    assert again == resolved(config)


def resolved(config):
    training = getattr(config, "training", None)
    if training is None:
        return config
    return dataclasses.replace(config, training=dataclasses.replace(training, **training.resolved()))


def test_what_the_file_of_a_run_holds():
    config = read(PretrainConfig, "--visible", "gaussian", "--hidden", "4", "3", "--overwrite")
    plain = to_dict(dataclasses.replace(config, training=config.training.for_data(*MANY)))
    assert (plain["batch_size"], plain["epochs"]) == (100, [15])
    assert plain["learning_rate"] == [0.01, 0.2]
    assert plain["momentum"] == "0.5,0.9@6"
    assert plain["hidden"] == [4, 3]
    assert plain["data_dir"] is None
    assert plain["run"] == "runs/pretrain"
    assert not {"resume", "overwrite", "config", "training"} & set(plain)
    assert to_dict(read(FinetuneConfig, *ALONE))["momentum"] == 0.9


def test_options_that_older_runs_lack_are_written_where_they_are_set():
    """An older run resumes under the same options, which its file does not name."""
    assert not {"hidden_units", "penalty"} & set(to_dict(Pretraining()))
    plain = to_dict(Pretraining(hidden_units="gaussian", hidden=[5], visible="bernoulli", penalty="l1(strength=0.1)"))
    assert (plain["hidden_units"], plain["penalty"]) == (["gaussian"], ["l1(strength=0.1)"])


def test_penalties_by_name():
    config = read(PretrainConfig, "--penalty", "l1(strength=0.001)", "max_norm")
    assert config.training.penalty == ("l1(strength=0.001)", "max_norm")
    assert read(PretrainConfig, *write("penalty: [l1, sparsity]")).training.penalty == ("l1", "sparsity")


def test_lists_single_values_and_numpy_numbers_from_python():
    made = Pretraining(hidden=[np.int64(5), 4], epochs=3, learning_rate=np.float64(0.5), momentum=0.5)
    assert (made.hidden, made.epochs, made.learning_rate, made.momentum) == ((5, 4), (3,), (0.5,), 0.5)
    assert yaml.safe_load(to_yaml(made))["hidden"] == [5, 4]
    assert yaml.safe_load(to_yaml(made))["learning_rate"] == [0.5]


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (Pretraining, {"hidden": "500"}, "--hidden must be a whole number of at least 1, not '500'"),
        (Pretraining, {"hidden": []}, "--hidden needs at least one value"),
        (Pretraining, {"l1": None}, "--l1 needs a value"),
        (Pretraining, {"hidden": [True]}, "--hidden must be a whole number"),
        (Pretraining, {"batch_size": 2.0}, "--batch-size must be a whole number"),
        (Pretraining, {"weight_decay": None}, "--weight-decay needs a value"),
        (Pretraining, {"penalty": [3]}, "--penalty must be a word, not 3"),
        (EvaluateConfig, {"run": Path("r"), "binarize": "fxed"}, "--binarize must be one of threshold, sample, fixed"),
        (EvaluateConfig, {"run": Path("r"), "ais": "fast"}, "--ais must be a whole number of at least 2, not 'fast'"),
        (Pretraining, {"seed": 2**64}, "--seed must be at most 18,446,744,073,709,551,615, not"),
        (Pretraining, {"hidden": [10**13]}, "--hidden must be at most 1,000,000,000,000, not"),
        (Pretraining, {"l1": 1e39}, r"--l1 must be at most 3e\+38, not"),
        (Pretraining, {"penalty": "l1(", "hidden": 3}, r"--penalty: invalid penalty 'l1\('"),
        (Pretraining, {"optimizer": "lion"}, "--optimizer must be one of sgd"),
        (
            Pretraining,
            {"learning_rate": "fast"},
            "--learning-rate must be a number above 0, or a schedule such as 0.1:0 or 1,3@10, not 'fast'",
        ),
        (Pretraining, {"weight_decay": math.inf}, "--weight-decay must be a number"),
        (Finetuning, {"freeze_epochs": "none"}, "--freeze-epochs must be a whole number"),
        (Finetuning, {"init": ["dbn", "dbn"]}, "--init names dbn more than once"),
    ],
)
def test_refused_in_python(made, options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        made(**options)


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, (0.2, 0.2, 0.2)),
        ({"visible": "gaussian"}, (0.01, 0.2, 0.2)),
        ({"visible": "gaussian", "learning_rate": 0.5}, (0.5, 0.5, 0.5)),
        ({"learning_rate": [0.3, 0.2, 0.1]}, (0.3, 0.2, 0.1)),
        ({"optimizer": "adam"}, (0.001, 0.001, 0.001)),
        ({"optimizer": "adam", "visible": "gaussian"}, (0.001, 0.001, 0.001)),
    ],
)
def test_learning_rate_of_each_layer(options, rates):
    training = Pretraining(**options).for_data(*MANY)
    assert tuple(training.for_layer(layer).learning_rate.at(1, 10) for layer in range(3)) == rates


def test_epochs_and_steps_of_each_layer():
    training = Pretraining(hidden=[3, 2], epochs=[5, 6], gibbs_steps=4)
    settings = [training.for_layer(layer) for layer in (0, 1)]
    assert [(setting.epochs, setting.gibbs_steps.at(1, 5)) for setting in settings] == [(5, 4), (6, 4)]


@pytest.mark.parametrize(
    ("options", "by_epoch"),
    [
        ({}, [0.5, 0.5, 0.5, 0.5, 0.5, 0.9, 0.9]),
        ({"momentum": "0.1,0.2@3"}, [0.1, 0.1, 0.2]),
        ({"momentum": "0:0.8"}, [0.0, 0.2, 0.4, 0.6]),
        ({"momentum": 0.7}, [0.7, 0.7]),
        ({"optimizer": "rmsprop"}, [0.0]),
        ({"optimizer": "rmsprop", "momentum": 0.3}, [0.3]),
        ({"optimizer": "adam"}, [0.0]),
    ],
)
def test_momentum_of_each_epoch(options, by_epoch):
    training = Pretraining(**options).for_data(*MANY)
    momentum = training.for_layer(0).momentum
    assert [momentum.at(epoch, len(by_epoch)) for epoch in range(1, len(by_epoch) + 1)] == pytest.approx(by_epoch)


@pytest.mark.parametrize(
    ("options", "rates", "momentum"),
    [
        ({}, (0.1,), 0.9),
        ({"momentum": 0.0}, (0.1,), 0.0),
        ({"optimizer": "rmsprop"}, (0.001,), None),
        ({"optimizer": "adam", "learning_rate": [0.1, 0.2]}, (0.1, 0.2), None),
    ],
)
def test_finetuning_resolves(options, rates, momentum):
    made = Finetuning(**options)
    assert made.resolved() == {"learning_rate": rates, "momentum": momentum}
    assert made.learning_rates == rates


@pytest.mark.parametrize("config_class", CLASSES)
def test_help_names_every_option_its_type_and_its_default(capsys, monkeypatch, config_class):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        read(config_class, "--seed", "not looked at", "--help")
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    flat = " ".join(out.split())
    options = options_of(config_class)
    assert all(f" --{name}" in flat for name in [*options, "config"])
    assert "Words about it." in flat
    assert flat.count("(required)") == sum(option.required for option in options.values())
    assert flat.count("(default: ") + flat.count("(required)") == len(options) + 1
    assert "None" not in flat


@pytest.mark.parametrize(
    "wanted",
    [
        "--hidden [INT ...] Hidden units",
        "(default: 500 500 2000, and at most a quarter of the rows)",
        "L2 penalty on weights; biases have none. (default: 0.0002)",
        "--data-dir PATH",
        "--features {mean,sample}",
        "--estimator {cd,pcd,lagged-pcd,pt,class-pcd}",
        "--hidden-units [{bernoulli,binomial,gaussian,relu,drelu,spin,categorical} ...]",
        "--learning-rate [FLOAT|SCHEDULE ...] Value or schedule",
        "Names: mnist-10k, mnist, fashion-mnist,",
        "--config FILE recipe or YAML file",
        "--resume, --no-resume Resume the run in that folder",
        "--max-norm are short for",
    ],
)
def test_help_shows_types_and_defaults(capsys, monkeypatch, wanted):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        read(PretrainConfig, "--help")
    assert wanted in " ".join(capsys.readouterr().out.split())


SCRIPT = """
import sys
from dbn.cli.command_line import run_script
from dbn.config.pretraining import PretrainConfig
from dbn.errors import InputError

def main(config):
    if config.training.seed == 1:
        raise InputError("The data in x.npz\\nare ragged")
    if config.training.seed == 2:
        raise KeyboardInterrupt
    for _ in range(100_000 if config.training.seed == 3 else 1):
        print("torch" in sys.modules, config.training.seed)

run_script(main, PretrainConfig, "Train.")
"""


def script(*words, stdout=subprocess.PIPE):
    Path("pretrain.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "pretrain.py", *words]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["--seed", "5"], 0, "False 5\n", ""),  # and without torch
        (["--seed", "1"], 2, "", "pretrain.py: error: The data in x.npz are ragged\n"),
        (["--seed", "2"], 130, "", "pretrain.py: interrupted\n"),
        (["--seed", "x"], 2, "", "pretrain.py: error: --seed must be a whole number, not 'x'\n"),
    ],
)
def test_a_script_ends_with_its_status_and_one_line(words, status, out, err):
    running = script(*words)
    assert (*running.communicate(timeout=60), running.returncode) == (out, err, status)


def test_a_reader_that_leaves_causes_no_traceback():
    running = script("--seed", "3")
    running.stdout.readline()
    running.stdout.close()
    assert (running.stderr.read(), running.wait(timeout=60)) == ("", 1)
    running.stderr.close()


def test_a_resumed_run_keeps_the_options_it_was_begun_with(capsys):
    begun = read(PretrainConfig, "--run", "mine", "--hidden", "20", "10", "--learning-rate", "1e-2", "--seed", "4")
    Path("mine").mkdir()
    Path("mine/config.yaml").write_text(to_yaml(begun))

    again = read(PretrainConfig, "--resume", "--run", "mine")
    assert again == dataclasses.replace(begun, resume=True, training=again.training)
    assert to_dict(again) == to_dict(begun)
    changed = read(PretrainConfig, "--resume", "--run", "mine", "--seed", "5")
    assert to_dict(changed) == to_dict(begun) | {"seed": 5}
    assert read(PretrainConfig, "--run", "mine").training.seed == 0, "only --resume reads the folder"

    Path("mine/config.yaml").write_text("hiden: 5")
    assert "hiden" in refusal(capsys, PretrainConfig, "--resume", "--run", "mine")
