"""Fingerprints find exchanged files, wherever a data set lies."""

from __future__ import annotations

import hashlib
import shutil

from monai_ext.storage.fingerprint import END, WHOLE, content_sha256, file_sha256, fingerprint


def test_a_data_set_that_moved_is_the_same_and_an_exchanged_file_is_not(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "one" / name).mkdir(parents=True)
        (tmp_path / "one" / name / "image").write_bytes(name.encode() * 10)
    shutil.copytree(tmp_path / "one", tmp_path / "two")

    def found(folder: str) -> dict:
        return fingerprint([{"image": str(tmp_path / folder / n / "image"), "note": "no file"} for n in ("b", "a")])

    first = found("one")
    assert (first["items"], first["files"], first["bytes"]) == (2, 2, 20)
    assert found("two") == first
    (tmp_path / "two" / "a" / "image").write_bytes(b"c" * 10)
    assert found("two")["sha256"] != first["sha256"]
    assert fingerprint(["no file"])["sha256"] == hashlib.sha256().hexdigest()


def test_of_a_large_file_both_ends_count_and_of_a_small_one_all(tmp_path):
    path, content = tmp_path / "a", bytearray(WHOLE + 10)
    path.write_bytes(content)
    before, whole = content_sha256(path), file_sha256(path)
    content[END + 5] = 1
    path.write_bytes(content)
    assert content_sha256(path) == before and file_sha256(path) != whole
    for place in (END - 1, len(content) - END):
        changed = bytearray(content)
        changed[place] = 1
        path.write_bytes(changed)
        assert content_sha256(path) != before
    path.write_bytes(bytes(END + 4) + b"\1")
    assert content_sha256(path) == hashlib.sha256(path.read_bytes()).digest()
