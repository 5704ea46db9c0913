"""A socket in the file system: who may use it, what is taken away, what is left at the end."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from assay.errors import Conflict, Unavailable
from assay.serving.server.unix_socket import GROUP, unix_socket


def connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(10)
    made.connect(str(path))
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_only_its_owner_may_connect_and_it_is_gone_at_the_end(path: Path) -> None:
    before = os.umask(0)
    try:
        with unix_socket(path) as listening:
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
            with connected(path), listening.accept()[0]:
                pass
        assert not path.exists()
        with unix_socket(path, mode=GROUP):
            assert stat.S_IMODE(path.lstat().st_mode) == 0o660
    finally:
        os.umask(before)
    assert list(path.parent.iterdir()) == []


def test_the_socket_of_a_process_that_was_killed_is_taken_away(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from assay.serving.server.unix_socket import *\n"
        "with unix_socket(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -9
    assert stat.S_ISSOCK(path.lstat().st_mode)
    with unix_socket(path) as listening, connected(path), listening.accept()[0]:
        pass
    assert not path.exists()


@pytest.mark.parametrize("backlog", [0, 5])
def test_a_socket_that_somebody_answers_on_is_left_alone(path: Path, backlog: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as theirs:
        theirs.bind(str(path))
        theirs.listen(backlog)
        waiting = [connected(path) for _ in range(1 if backlog == 0 else 0)]  # no room for more
        with pytest.raises(Conflict, match="somebody answers"), unix_socket(path):
            pass
        assert path.exists()
        for one in waiting:
            one.close()


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(Conflict, match="is no socket"), unix_socket(path):
        pass
    assert path.read_text() == "a file"


def test_what_another_has_put_in_its_place_is_not_removed(path: Path) -> None:
    with unix_socket(path):
        path.unlink()
        path.write_text("a file")
    assert path.read_text() == "a file"


@pytest.mark.parametrize(
    ("name", "words"), [("x" * 200, "too long"), ("none/s", "No such file"), ("f/s", "Not a dir")]
)
def test_where_none_can_be_made_it_is_said(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(Unavailable, match=words), unix_socket(tmp_path / name):
        pass


def test_of_many_that_start_at_once_over_a_stale_socket_one_gets_it(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(path))
    begin, decided = threading.Barrier(8), threading.Barrier(8)
    got: list[bool] = []

    def start() -> None:
        begin.wait()
        try:
            with unix_socket(path) as listening:
                got.append(True)
                decided.wait()
                with connected(path), listening.accept()[0]:
                    pass
        except Conflict:
            got.append(False)
            decided.wait()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(got) == [False] * 7 + [True]
    assert not path.exists()
