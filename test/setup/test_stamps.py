from __future__ import annotations

from pathlib import Path

import pytest

from tools.setup.stamps import digest, is_done, mark_done, mark_open


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "a.msg").write_text("float64 x", encoding="utf-8")
    (tmp_path / "lock.txt").write_text("numpy==2.2.6", encoding="utf-8")
    return tmp_path


def _digest(root: Path, *texts: str) -> str:
    return digest(root, [root / "folder", root / "lock.txt"], texts)


def test_digest_depends_on_contents_names_and_texts(root: Path) -> None:
    seen = [_digest(root), _digest(root, "3.11"), _digest(root, "3.12")]
    message = root / "folder" / "inner" / "a.msg"
    message.write_text("float32 x", encoding="utf-8")
    seen.append(_digest(root))
    message.rename(message.with_name("b.msg"))
    seen.append(_digest(root))
    (root / "folder" / "c.msg").touch()
    seen.append(_digest(root))
    assert len(set(seen)) == len(seen)


def test_digest_ignores_what_python_leaves_behind(root: Path) -> None:
    before = _digest(root)
    (root / "folder" / "__pycache__").mkdir()
    (root / "folder" / "__pycache__" / "a.pyc").touch()
    assert _digest(root) == before


def test_digest_of_a_missing_file_is_an_error(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest(root, [root / "gone.txt"])


def test_stamps(tmp_path: Path) -> None:
    folder = tmp_path / "stamps"
    assert not is_done(folder, "ros", "1")
    mark_done(folder, "ros", "1")
    assert is_done(folder, "ros", "1")
    assert not is_done(folder, "ros", "2")
    assert not is_done(folder, "torch", "1")
    mark_open(folder, "ros")
    assert not is_done(folder, "ros", "1")
