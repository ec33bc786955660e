"""torchvision's data sets: found, fetched from a server on this machine, missing and damaged."""

import bz2
import gzip
import hashlib
import http.server
import os
import pickle
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dbn.data import torchvision_datasets as vision
from dbn.data.datasets import load_splits
from dbn.errors import InputError

RNG = np.random.default_rng(0)
CLOSED = "http://127.0.0.1:1/"


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """No test may reach beyond this machine, whatever it does wrong."""
    real = socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        assert host in ("127.0.0.1", "localhost"), f"a test asked for {host}"
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def sizes(splits):
    return len(splits.train), len(splits.valid), len(splits.test)


def test_mnist_is_found_without_a_network(monkeypatch):
    folder = os.environ.get("DBN_DATA", "")
    if not Path(folder, "MNIST", "raw", "train-images-idx3-ubyte").is_file():
        pytest.skip("full MNIST is not in $DBN_DATA")
    monkeypatch.setattr(vision.import_torchvision().datasets.MNIST, "mirrors", [CLOSED])
    splits = load_splits("mnist")
    assert sizes(splits) == (55_000, 5_000, 10_000)
    assert torch.bincount(splits.valid.y).tolist() == [500] * 10


PICTURES = RNG.integers(0, 256, (40, 28, 28)).astype(np.uint8)
KINDS = (np.arange(40) % 10).astype(np.uint8)


def idx(values):
    """An array of bytes in MNIST's format."""
    return b"".join([bytes([0, 0, 8, values.ndim]), *(n.to_bytes(4, "big") for n in values.shape), values.tobytes()])


def idx_files():
    return {
        f"{part}-{kind}-ubyte": idx(values)
        for part in ("train", "t10k")
        for kind, values in (("images-idx3", PICTURES), ("labels-idx1", KINDS))
    }


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
@pytest.mark.parametrize("by_variable", [True, False])
def test_found_in_the_data_folder(tmp_path, monkeypatch, capfd, name, folder, by_variable):
    monkeypatch.setenv("DBN_DATA", str(tmp_path if by_variable else "/nowhere"))
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for file, content in idx_files().items():
        (raw / file).write_bytes(content)
    splits = load_splits(name, data_dir=None if by_variable else tmp_path)
    assert sizes(splits) == (36, 4, 40)
    assert (splits.n_classes, splits.image_shape, splits.divisor) == (10, (1, 28, 28), 255)
    assert np.array_equal(splits.test.x, PICTURES.reshape(40, 784))
    assert splits.test.y.tolist() == KINDS.tolist()
    assert capfd.readouterr() == ("", "")
    (raw / "train-images-idx3-ubyte").write_bytes(idx(PICTURES)[:-1])
    with pytest.raises(InputError, match=f"{folder}/raw are damaged.*remove train-images"):
        load_splits(name, data_dir=tmp_path)


def test_usps(tmp_path):
    lines = [f"{n % 10 + 1} " + " ".join(f"{i + 1}:{1 if i == n else -1}" for i in range(256)) for n in range(40)]
    for file in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / file).write_bytes(bz2.compress("\n".join(lines).encode()))
    splits = load_splits("usps", data_dir=tmp_path)
    assert (splits.image_shape, splits.classes) == ((1, 16, 16), tuple("0123456789"))
    assert torch.equal(splits.test.x[:, :40], 255 * torch.eye(40, dtype=torch.uint8))
    assert splits.test.y.tolist() == [n % 10 for n in range(40)]


def test_cifar10_has_its_channels_first(tmp_path, monkeypatch):
    known = vision.import_torchvision().datasets.CIFAR10
    folder = tmp_path / known.base_folder
    folder.mkdir()
    planes = np.repeat(np.array([10, 20, 30], np.uint8), 1024)

    def write(file, content):
        (folder / file).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / file).read_bytes()).hexdigest()

    batch = {"data": np.tile(planes, (20, 1)), "labels": [n % 10 for n in range(20)]}
    monkeypatch.setattr(known, "train_list", [[file, write(file, batch)] for file, _ in known.train_list])
    monkeypatch.setattr(known, "test_list", [["test_batch", write("test_batch", batch)]])
    names = {"label_names": ["?"] * 10}
    monkeypatch.setattr(known, "meta", known.meta | {"md5": write("batches.meta", names)})
    splits = load_splits("cifar10", data_dir=tmp_path)
    assert sizes(splits) == (90, 10, 20)
    assert splits.image_shape == (3, 32, 32)
    assert splits.classes[3] == "cat"
    assert np.array_equal(splits.train.x[0], planes)
    (folder / "test_batch").write_bytes(b"not what was published")
    with pytest.raises(InputError, match="damaged"):
        load_splits("cifar10", data_dir=tmp_path)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server of small MNIST files on this machine, in place of the real ones."""
    served = tmp_path / "served"
    served.mkdir()
    checksums = []
    for file, content in idx_files().items():
        packed = gzip.compress(content)
        (served / f"{file}.gz").write_bytes(packed)
        checksums.append((f"{file}.gz", hashlib.md5(packed).hexdigest()))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=served)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    known = vision.import_torchvision().datasets.MNIST
    monkeypatch.setattr(known, "mirrors", [CLOSED, f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(known, "resources", checksums)
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(tmp_path, mirror, capfd):
    splits = load_splits("mnist", data_dir=tmp_path / "cache")
    assert np.array_equal(splits.test.x, PICTURES.reshape(40, 784))
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


def test_download_of_something_else(tmp_path, mirror):
    (mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(b"another file")
    with pytest.raises(InputError, match="could not be fetched"):
        load_splits("mnist", data_dir=tmp_path / "cache")


def test_download_into_what_cannot_be_written(tmp_path, mirror):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="could not be fetched"):
        load_splits("mnist", data_dir=tmp_path / "cache")


def test_archives_in_place_are_unpacked_without_a_network(tmp_path, mirror, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in mirror.iterdir():
        file.rename(raw / file.name)
    monkeypatch.setattr(vision.import_torchvision().datasets.MNIST, "mirrors", [CLOSED])
    assert sizes(load_splits("mnist", data_dir=tmp_path)) == (36, 4, 40)


@pytest.mark.parametrize("name", list(vision.SOURCES))
@pytest.mark.parametrize("network", ["refuses", "is silent", "has no names"])
def test_without_a_network(tmp_path, monkeypatch, name, network):
    known = getattr(vision.import_torchvision().datasets, vision.SOURCES[name].dataset)
    monkeypatch.setattr(vision, "PROBE_SECONDS", 0.2)
    with socket.socket() as listener:  # accepts and never answers
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/" if network == "is silent" else CLOSED
        if network == "has no names":
            monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(3) or [])
        monkeypatch.setattr(known, "mirrors", [address] * 2, raising=False)
        monkeypatch.setattr(known, "url", address, raising=False)
        monkeypatch.setattr(known, "split_list", {"train": [address], "test": [address]}, raising=False)
        begin = time.monotonic()
        with pytest.raises(InputError) as caught:
            load_splits(name, data_dir=tmp_path / "cache")
        assert time.monotonic() - begin < 2
    sentence = str(caught.value)
    source = vision.SOURCES[name]
    assert all(file in sentence for file in source.files)
    assert f"into {tmp_path / 'cache' / source.folder}, " in sentence
    assert not (tmp_path / "cache").exists()


def test_default_folder(monkeypatch):
    monkeypatch.delenv("DBN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert vision.data_folder() == Path("/caches/dbn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert vision.data_folder() == Path.home() / ".cache" / "dbn"


def test_torchvision_of_another_torch(monkeypatch):
    def fail(name):
        raise RuntimeError("compiled with different CUDA major versions")

    monkeypatch.setattr(vision.importlib, "import_module", fail)
    with pytest.raises(InputError, match=r"does not match torch .*pip install"):
        vision.import_torchvision()
