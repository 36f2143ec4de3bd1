"""Checkpoints that are damaged or hostile: found out, said, and the one before them used."""

from __future__ import annotations

import errno
import io
import logging
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_training import assert_equal_results, result, train_tiny

from monai_ext.handlers import load_checkpoint


def stopped_after(epochs: int, folder: Path, monkeypatch) -> None:
    """A run that was stopped after so many epochs."""
    with monkeypatch.context() as patched:
        patched.setattr("tiny_training.EPOCHS", epochs)
        patched.setattr(
            "monai_ext.handlers.training.checkpoints.ResumeHandler._end", lambda self, engine: self._lock.release()
        )
        train_tiny(folder)
    (folder / "final.pt").unlink()


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def weights_in(path: Path) -> int:
    """Where in a checkpoint the bytes of its largest tensor lie."""
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda r: r.file_size * ("/data/" in r.filename))
        return record.header_offset + 300


def test_a_single_flipped_bit_in_a_weight_is_found(tmp_path):
    torch.save({"weight": torch.rand(1000)}, tmp_path / "model.pt")
    assert load_checkpoint(tmp_path / "model.pt")["weight"].shape == (1000,)
    flip(tmp_path / "model.pt", weights_in(tmp_path / "model.pt"))
    torch.load(tmp_path / "model.pt", weights_only=True)  # which does not look
    with pytest.raises(ValueError, match="model.pt' is damaged .*the check sum of .*data/0 is wrong"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "other", "gone"])
def test_a_damaged_last_checkpoint_is_said_and_the_one_before_it_used(tmp_path, monkeypatch, caplog, whole, damage):
    stopped_after(2, tmp_path, monkeypatch)
    last, previous = tmp_path / "last.pt", tmp_path / "last.previous.pt"
    assert [load_checkpoint(path)["epoch"] for path in (last, previous)] == [2, 1]
    match damage:
        case "bit":
            flip(last, weights_in(last))
        case "cut":
            last.write_bytes(last.read_bytes()[:-1000])
        case "empty":
            last.write_bytes(b"")
        case "other":
            torch.save({"weights": torch.zeros(1)}, last)
        case "gone":
            last.unlink()
    with caplog.at_level(logging.INFO):
        train_tiny(tmp_path)
    assert f"'{last}'" in caplog.text and f"goes on from the one before it, '{previous}'" in caplog.text
    assert_equal_results(result(tmp_path), whole)


def test_a_damaged_checkpoint_never_becomes_the_one_before(tmp_path, monkeypatch):
    stopped_after(2, tmp_path, monkeypatch)
    (tmp_path / "last.pt").write_bytes(b"damaged")
    stopped_after(2, tmp_path, monkeypatch)
    assert [load_checkpoint(tmp_path / name)["epoch"] for name in ("last.pt", "last.previous.pt")] == [2, 1]


def test_two_damaged_checkpoints_are_both_named(tmp_path, monkeypatch):
    stopped_after(2, tmp_path, monkeypatch)
    (tmp_path / "last.pt").write_bytes(b"")
    (tmp_path / "last.previous.pt").write_bytes(b"PK")
    with pytest.raises(ValueError) as caught:
        train_tiny(tmp_path)
    sentence = str(caught.value)
    for part in ("last.pt' is damaged", "last.previous.pt' is damaged", "Remove both"):
        assert part in sentence
    assert not (tmp_path / ".run.lock").exists()


def test_the_checkpoint_before_is_kept_without_hard_links_too(tmp_path, monkeypatch, whole):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    stopped_after(2, tmp_path, monkeypatch)
    assert load_checkpoint(tmp_path / "last.previous.pt")["epoch"] == 1
    train_tiny(tmp_path)
    assert_equal_results(result(tmp_path), whole)


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("packed", [True, False])
def test_nothing_in_a_checkpoint_is_executed(tmp_path, monkeypatch, packed):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Evil()}, "evil.pt", _use_new_zipfile_serialization=packed)
    reason = f"holds more than tensors .*{os.system.__module__}.system" if packed else "is damaged and cannot be read"
    with pytest.raises(ValueError, match=f"evil.pt' {reason}"):
        load_checkpoint("evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="plain.pt' is damaged and cannot be read .it was not written by torch.save"):
        load_checkpoint("plain.pt")
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_that_would_unpack_to_gigabytes_is_refused_unread(tmp_path):
    packed = io.BytesIO()
    torch.save({"weight": torch.zeros(2**22)}, packed)
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
    assert (tmp_path / "bomb.pt").stat().st_size < 2**16
    with pytest.raises(ValueError, match="it would unpack to more than it is"):
        load_checkpoint(tmp_path / "bomb.pt")
