from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from test.commands import ROOT
from trt_perception.atomic_file import require_writable, write_atomically
from trt_perception.errors import WriteError


def test_it_writes_and_makes_folders(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file"
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert target.stat().st_mode & 0o044 == 0o044 & ~_umask()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def fail(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    # Python ignores the signal that the limit sends, and write() fails as on a full disk.
    code = (
        "import resource, sys; from pathlib import Path; from trt_perception.atomic_file import write_atomically\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"write_atomically(Path({str(target)!r}), bytes(2000))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert f"WriteError: {target} cannot be written (File too large); make room there" in done.stderr
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_no_folder_cannot_be_written_into(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for write in (lambda path: write_atomically(path, b""), require_writable):
        with pytest.raises(WriteError, match=r"file/new cannot be written \("):
            write(tmp_path / "file" / "new")
    with pytest.raises(WriteError, match="it is a folder"):
        require_writable(tmp_path)
    require_writable(tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
