from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trt_perception.errors import WriteError
from trt_perception.file_lock import file_lock


def test_one_at_a_time_and_nothing_is_left(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []
    waited: list[int] = []

    def enter(number: int) -> None:
        for _ in range(50):
            with file_lock(tmp_path / "target", lambda: waited.append(number)):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 200 and set(most) == {1}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_became_read_only_meanwhile_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with file_lock(tmp_path / "target", pytest.fail):
            pass
    with file_lock(tmp_path / "target", lambda: pytest.fail("it is still locked")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_who_waits_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    entered = threading.Event()

    def enter() -> None:
        with file_lock(tmp_path / "target", lambda: told.append("waits")):
            entered.set()

    with file_lock(tmp_path / "target", lambda: told.append("never")):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    thread.join(10)
    assert told == ["waits"]


def test_a_holder_that_is_killed_holds_nobody_up(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from trt_perception.file_lock import file_lock
with file_lock(Path({str(tmp_path / "target")!r}), lambda: None):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    waited: list[bool] = []
    with file_lock(tmp_path / "target", lambda: waited.append(True)):
        pass
    assert waited == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match="cannot be written"), file_lock(tmp_path / "file" / "target", lambda: None):
        pass


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = open_files()
    with (
        pytest.raises(WriteError, match=r"cannot be locked \(No locks available\); choose a folder on a local"),
        file_lock(tmp_path / "target", lambda: None),
    ):
        pass
    assert open_files() == before


def test_a_wait_that_is_interrupted_gives_its_file_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int, how: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupt)
    before = open_files()
    with pytest.raises(KeyboardInterrupt), file_lock(tmp_path / "target", lambda: None):
        pass
    assert open_files() == before
