"""What lies in DATA and in the caches, and what surrounds a process, is told without opening an image or a secret."""

import os
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from furnace.data import entries
from furnace.doctor import caches, data_folder, disks, surroundings, system
from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding
from furnace.doctor.wanted import Wanted
from furnace.network.resnet import ResNet


def test_no_data(tmp_path: Path) -> None:
    for data in (tmp_path, tmp_path / "none"):
        (sets,) = data_folder.data_sets(Wanted(data=data))
        assert sets.state == NOTE and "demo-data DATA/demo" in sets.remedy
        assert not list(data_folder.weights(Wanted(data=data)))  # most runs start without any
        assert sets.found == f"no data set lies in {data}"


def test_data_sets(demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for function in ("read_image", "read_label"):
        monkeypatch.setattr(entries, function, lambda *_: pytest.fail("an image is opened"))
    (tmp_path / "demo").symlink_to(demo_data)
    (tmp_path / "VOCdevkit").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/dataset.json").write_text("{}")
    (tmp_path / "camvid/train/labels").mkdir(parents=True)
    (tmp_path / "pytorch-weight").mkdir()
    (tmp_path / "README.md").touch()
    unknown, bad, camvid, demo = data_folder.data_sets(Wanted(data=tmp_path))
    assert (unknown.state, unknown.subject) == (NOTE, "data VOCdevkit") and "not recognised" in unknown.found
    assert bad.state == NOTE and "expected classes to be a list of names" in bad.found
    assert camvid == Finding(
        OK, "data camvid", "camvid, 11 classes, without lists of its own (an experiment may name others: lists_path)"
    )
    assert demo.state == OK and demo.figures["train"] == 32 and "labeled 1/8: 4" in demo.found


def test_lists_whose_images_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "field"
    folder.mkdir()
    (folder / "dataset.json").write_text('{"classes": ["a", "b"]}')
    (folder / "val.txt").write_text("images/x.jpg\tlabels/x.png\n")
    (found,) = data_folder.data_sets(Wanted(data=tmp_path))
    assert found.state == NOTE and found.found.startswith(
        f"file not found: {folder}/images/x.jpg: named by entry 1 of "
    )


def test_a_list_that_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "field"
    folder.mkdir()
    (folder / "dataset.json").write_text('{"classes": ["a", "b"]}')
    (folder / "val.txt").touch()
    (found,) = data_folder.data_sets(Wanted(data=tmp_path))
    assert found.state == NOTE and str(folder / "val.txt") in found.found


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pytorch-weight"
    folder.mkdir()
    torch.save(ResNet("resnet18_v1c", 0.125).state_dict(), folder / "a.pth")
    torch.save({"blocks.0.attn.weight": torch.ones(2, 2)}, folder / "b.pth")
    (folder / "c.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    first, second, third = data_folder.weights(Wanted(data=tmp_path))
    assert first == Finding(OK, "weights a.pth", "ResNet-18 v1c of width 0.125 in the published naming")
    assert second.state == OK and second.found.startswith("1 tensors, of no ResNet")
    assert third.state == NOTE and third.remedy == "`git lfs pull` brings it"
    torch.save({"a": torch.ones(2)}, folder / "d.pth", _use_new_zipfile_serialization=False)  # it would be read whole
    cut = folder / "e.pth"
    cut.write_bytes((folder / "a.pth").read_bytes()[:5000])
    monkeypatch.setattr(data_folder, "SMALL", 100)
    *zipped, old, damaged = data_folder.weights(Wanted(data=tmp_path))
    assert zipped[:2] == [first, second] and old.state == OK and old.found.endswith("not looked into")
    assert damaged.state == NOTE and damaged.found.startswith(f"damaged file: {cut}: ")


def test_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (found,) = caches.hub(Wanted())
    assert found.found == (
        f"{tmp_path}/hub is not there yet, no token is set, HF_HUB_OFFLINE is set: only what lies there is found"
    )
    blob = tmp_path / "hub/models--timm--x/blobs/1"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"0" * 2_000_000)
    (blob.parents[1] / "snapshot").symlink_to(blob)  # counts once
    (tmp_path / "token").write_text("hf_secret")
    (found,) = caches.hub(Wanted())
    assert found.found.startswith(f"1 model, 2 MB in {tmp_path}/hub, a token is set") and "secret" not in found.found
    monkeypatch.setattr(caches, "PATIENCE", -1.0)
    assert "more than 0 kB" in next(iter(caches.hub(Wanted()))).found
    monkeypatch.setattr(os, "access", lambda *_: False)
    (found,) = caches.hub(Wanted())
    assert found.state == NOTE and "HF_HOME" in found.remedy


def test_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(folder: Path) -> Finding:
        monkeypatch.setattr(disks.tempfile, "gettempdir", lambda: str(folder))
        (found,) = disks.temporary_files(Wanted())
        return found

    room = SimpleNamespace(f_bavail=10**9, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    assert put(tmp_path).state == OK
    room.f_bavail = 1
    assert put(tmp_path).state == NOTE and "4 kB are free" in put(tmp_path).found
    long = tmp_path / ("x" * 100)
    long.mkdir()
    assert put(long).state == NOTE and "too long a path for sockets" in put(long).found

    def none() -> str:
        raise FileNotFoundError("no usable temporary directory found")

    monkeypatch.setattr(disks.tempfile, "gettempdir", none)
    assert next(iter(disks.temporary_files(Wanted()))).state == NOTE


def test_no_file_is_left_on_the_disk(tmp_path: Path) -> None:
    (found,) = disks.disk(Wanted(results=tmp_path / "a/b"))
    assert found.state != PROBLEM and f"where {tmp_path} lies" in found.found and not list(tmp_path.iterdir())


def test_a_file_system_that_does_not_tell_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = SimpleNamespace(f_bavail=0, f_frsize=4096, f_blocks=0, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _: silent)
    assert next(iter(disks.disk(Wanted(results=tmp_path)))).state == OK


def test_a_limit_of_the_address_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.memory, "free", lambda: 8e9)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20 * 10**9, -1))
    first, second = system.memory_free(Wanted())
    assert first.state == OK and second.state == NOTE and second.remedy == "ulimit -v unlimited"


@pytest.mark.parametrize(
    ("workers", "named", "gpus", "expected"),
    [("auto", False, 0, 1), ("auto", True, 0, 0), ("auto", True, 2, 6), ("auto", True, 1, 8), (3, True, 2, 3)],
)
def test_how_many_workers_a_process_has(
    monkeypatch: pytest.MonkeyPatch, workers: int | str, named: bool, gpus: int, expected: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("NNODES", raising=False)
    for module in ("furnace.doctor.system", "furnace.engine.backend"):
        monkeypatch.setattr(f"{module}.cores", lambda: 12)
    assert system._workers(Wanted(num_workers=workers, is_named=named)) == expected
    (found,) = system.cores_allowed(Wanted(gpus="all"))
    assert found.state == OK


def test_few_cores_beside_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.delenv("NNODES", raising=False)
    for module in ("furnace.doctor.system", "furnace.engine.backend"):
        monkeypatch.setattr(f"{module}.cores", lambda: 12)
    (found,) = system.cores_allowed(Wanted())
    assert found.state == NOTE and "1.5 for each GPU" in found.found
    assert next(iter(system.cores_allowed(Wanted(2)))).state == OK
    assert next(iter(system.cores_allowed(Wanted(is_named=True, batch_size=2)))).state == OK  # two GPUs have a share
    assert system._workers(Wanted(is_named=True, batch_size=2)) == 6


def test_terminal_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(encoding="utf-8"))
    assert not list(surroundings.terminal(Wanted()))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(encoding="ANSI_X3.4-1968"))
    (found,) = surroundings.terminal(Wanted())
    assert found.state == NOTE and "in ANSI_X3.4-1968; letters" in found.found
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(surroundings, "cores", lambda: 4)
    (found,) = surroundings.threads(Wanted())
    assert found.state == NOTE and found.remedy == "export OMP_NUM_THREADS=4"


def test_names_of_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert not list(surroundings.network(Wanted()))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("NNODES", "2")
    (found,) = surroundings.network(Wanted())
    assert found.state == OK and found.found == "MASTER_ADDR=127.0.0.1 is reached by lo (127.0.0.1)"
    monkeypatch.setenv("MASTER_ADDR", "no-such-machine.invalid")
    monkeypatch.setattr(surroundings, "PATIENCE", 0.05)
    monkeypatch.setattr(surroundings, "address_towards", lambda _: time.sleep(0.5) or "late")
    assert next(iter(surroundings.network(Wanted()))).state == PROBLEM
