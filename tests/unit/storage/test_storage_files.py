import multiprocessing
import os
import stat

import pytest

from assay.errors import Tampered, Unavailable
from assay.storage.files import (
    append_line,
    atomic_path,
    drop_torn_tail,
    file_sha256,
    replace_link,
    write_atomic,
)
from assay.storage.locks import FileLock


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def fail(error):
    raise error


def test_a_whole_file_replaces_another_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(path.parent) == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_an_atomic_path_appears_on_success_only(tmp_path):
    path = tmp_path / "file"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"data")
        assert not path.exists()
    assert path.read_bytes() == b"data"
    with pytest.raises(ValueError, match="no"), atomic_path(path) as temporary:
        fail(ValueError("no"))
    assert path.read_bytes() == b"data"
    assert names_in(tmp_path) == ["file"]


def test_a_link_moves_in_one_step(tmp_path):
    link = tmp_path / "links" / "current"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        replace_link(link, tmp_path / name)
        assert link.samefile(tmp_path / name)
    assert names_in(link.parent) == ["current"]


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", b""),
        (b"a\n", b"a\n"),
        (b"a\nb", b"a\n"),
        (b"torn", b""),
        (b"\n\nx", b"\n\n"),
        (b"a\n" + b"x" * 200_000, b"a\n"),
        (b"y" * 65_536 + b"\n" + b"x" * 65_535, b"y" * 65_536 + b"\n"),
    ],
)
def test_only_an_unfinished_last_line_is_cut(tmp_path, content, kept):
    path = tmp_path / "log"
    path.write_bytes(content)
    assert drop_torn_tail(path) == content[len(kept) :]
    assert path.read_bytes() == kept


def test_cutting_a_file_that_is_not_there_does_nothing(tmp_path):
    assert drop_torn_tail(tmp_path / "log") == b""
    assert not (tmp_path / "log").exists()


def test_a_line_with_a_break_in_it_is_refused(tmp_path):
    append_line(tmp_path / "log", b"one")
    with pytest.raises(Tampered, match="line break"):
        append_line(tmp_path / "log", b"t\nwo")
    assert (tmp_path / "log").read_bytes() == b"one\n"


def test_a_digest_is_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def _hold(path, ready):
    with FileLock(path):
        ready.set()
        multiprocessing.Event().wait()


def test_a_held_lock_is_refused_after_the_timeout_and_free_when_its_holder_is_killed(tmp_path):
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=_hold, args=(path, ready))
    child.start()
    assert ready.wait(30)
    with pytest.raises(Unavailable, match="held by another process"), FileLock(path, timeout=0.01):
        pass
    child.kill()
    child.join()
    with FileLock(path, timeout=5):
        pass


def test_a_lock_can_be_taken_again_after_an_error(tmp_path):
    lock = FileLock(tmp_path / "lock", timeout=1)
    with pytest.raises(ValueError, match="x"), lock:
        raise ValueError("x")
    with lock:
        pass
