from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from trt_perception.backends.tensorrt_runtime.manifest import (
    PREVIEW,
    EngineKey,
    EngineManifest,
    manifest_path,
    read_manifest,
)
from trt_perception.backends.tensorrt_runtime.versions import PROFILE_SHARING
from trt_perception.errors import BackendError

KEY = EngineKey("a" * 64, "8.6.0", "NVIDIA H200", "9.0", "fp16", {"images": "1x3x8x8/-/-"}, {"memPoolSize": ""})
CONTENT = b"engine" * 100


def manifest(content: bytes = CONTENT) -> EngineManifest:
    return EngineManifest(
        key=KEY,
        engine_sha256=hashlib.sha256(content).hexdigest(),
        engine_bytes=len(content),
        onnx="model.onnx",
        metadata={"names": "{0: 'a'}"},
        built_at="2026-01-02T03:04:05+00:00",
        build_s=1.5,
        notes=("a note",),
    )


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    path.write_bytes(CONTENT)
    manifest_path(path).write_text(manifest().to_json())
    return path


def test_it_reads_what_it_wrote(engine: Path) -> None:
    found = read_manifest(engine)
    assert found == manifest()
    assert found is not None and found.problem(engine) is None


def test_an_engine_without_one_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "bare.engine") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(CONTENT[:-1], "truncated"), (CONTENT + b"x", "longer than built"), (b"E" + CONTENT[1:], "was changed")],
)
def test_a_file_that_is_not_the_one_built_is_noticed(engine: Path, content: bytes, words: str) -> None:
    engine.write_bytes(content)
    problem = manifest().problem(engine)
    assert problem is not None and words in problem


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": 2}', json.dumps({**json.loads(manifest().to_json()), "notes": [1]})]
)
def test_an_unreadable_one_says_so(engine: Path, text: str) -> None:
    manifest_path(engine).write_text(text)
    with pytest.raises(BackendError, match="delete it and build the engine again"):
        read_manifest(engine)


def test_bytes_that_are_no_text_say_so(engine: Path) -> None:
    manifest_path(engine).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BackendError, match="cannot be read"):
        read_manifest(engine)


def test_an_engine_that_cannot_be_read_is_a_problem(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = replace(manifest(), engine_bytes=engine.stat().st_size)

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("trt_perception.backends.tensorrt_runtime.manifest.file_sha256", refuse)
    assert written.problem(engine) == f"{engine} cannot be read (Permission denied)"
    assert "No such file" in str(written.problem(engine.with_name("gone.engine")))


def test_equal_keys_have_no_differences() -> None:
    assert KEY.differences(replace(KEY)) == []


def test_differences_name_each_part_once() -> None:
    wanted = replace(KEY, precision="int8", shapes={}, options={"memPoolSize": "workspace:1B"})
    assert KEY.differences(wanted) == [
        "precision: built with fp16, wanted int8",
        "shapes.images: built with 1x3x8x8/-/-, wanted none",
        "options.memPoolSize: built with , wanted workspace:1B",
    ]


@pytest.mark.parametrize(
    ("version", "asked", "shares"),
    [
        ("8.5.3.1", True, False),
        ("8.6.0", False, False),
        ("8.6.1.post1", True, True),
        ("10.3.0", False, True),
        ("11.4.0.106", False, True),
    ],
)
def test_whether_contexts_may_share_a_profile_depends_on_the_build(version: str, asked: bool, shares: bool) -> None:
    options = {PREVIEW: PROFILE_SHARING} if asked else {}
    assert replace(KEY, tensorrt_version=version, options=options).shares_profile == shares
