"""With model_root and require_checksum set nothing else is read, and what is not set asks nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from test.commands import trt_perception
from trt_perception.backend_request import BackendRequest
from trt_perception.backends import create_backend, require_trusted_paths
from trt_perception.checksum import file_sha256
from trt_perception.errors import ModelFileError
from trt_perception.models import load_model
from trt_perception.resources import model_directory
from trt_perception.trust import Trust

DIGITS = model_directory()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder with a model in it, and the same model outside."""
    for name in ("inside", "outside"):
        folder = tmp_path / name
        folder.mkdir()
        for file in DIGITS.iterdir():
            shutil.copy(file, folder)
        (folder / "names.txt").write_text("secret\n" * 10)
    return tmp_path / "inside"


def refused(model: Path, trust: Trust) -> str:
    with pytest.raises(ModelFileError) as caught:
        load_model(model, trust)
    return str(caught.value)


def change(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_what_lies_in_a_root_is_loaded(root: Path) -> None:
    for trust in (Trust(), Trust.of(False, [str(root)]), Trust.of(True, [str(root.parent / "outside/..") + "/inside"])):
        model = load_model(root / "digits.yaml", trust)
        create_backend(BackendRequest.parse("onnxruntime:cpu"), model)
    assert load_model(root / "digits.onnx", Trust.of(False, [root])).artifact("onnx").path == root / "digits.onnx"


def test_a_shipped_model_needs_no_root(root: Path) -> None:
    assert load_model("digits", Trust.of(True, [root])).name == "digits"


def link(root: Path) -> Path:
    path = root / "link.yaml"
    path.symlink_to(root.parent / "outside" / "digits.yaml")
    return path


MODELS: dict[str, Callable[[Path], Path]] = {
    "elsewhere": lambda root: root.parent / "outside" / "digits.yaml",
    "an artifact elsewhere": lambda root: root.parent / "outside" / "digits.onnx",
    "a detour": lambda root: root / ".." / "outside" / "digits.yaml",
    "a link": link,
    "a name that begins like the root": lambda root: root.parent / "inside2.yaml",
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_elsewhere_is_refused(root: Path, case: str) -> None:
    message = refused(MODELS[case](root), Trust.of(False, [root]))
    assert message.startswith("model: ") and f"outside of {root}" in message and "model_root" in message


def artifact_link(root: Path) -> str:
    (root / "link.onnx").symlink_to(root.parent / "outside" / "digits.onnx")
    return "link.onnx"


ARTIFACTS: dict[str, Callable[[Path], str]] = {
    "above": lambda root: "../outside/digits.onnx",
    "absolute": lambda root: str(root.parent / "outside" / "digits.onnx"),
    "a link": artifact_link,
    "a device": lambda root: "/dev/zero",
}


@pytest.mark.parametrize("case", ARTIFACTS)
def test_an_artifact_elsewhere_is_refused_with_its_line(root: Path, case: str) -> None:
    path = change(root / "digits.yaml", "path: digits.onnx", f"path: {ARTIFACTS[case](root)}")
    load_model(path)
    assert f"{path}, line 5: artifacts.onnx.path is refused" in refused(path, Trust.of(False, [root]))


def test_labels_elsewhere_are_not_read(root: Path) -> None:
    path = root / "digits.yaml"
    labels = next(line for line in path.read_text().splitlines() if line.startswith("labels"))
    change(path, labels, "labels: ../outside/names.txt")
    assert load_model(path).labels[0] == "secret"
    assert "labels is refused: " in refused(path, Trust.of(False, [root]))


def test_checksums_are_asked_for(root: Path) -> None:
    trust = Trust(require_checksum=True)
    assert load_model(root / "digits.yaml", trust).name == "digits"
    assert "comes without a sha256" in refused(root / "digits.onnx", trust)
    sha256 = file_sha256(root / "digits.torchscript")
    path = change(root / "digits.yaml", f", sha256: {sha256}", "")
    assert "line 6: artifacts.torchscript has no sha256, which require_checksum asks for" in refused(path, trust)
    change(path, "torchscript: {path: digits.torchscript}", "torchscript: digits.torchscript")
    assert "line 6: artifacts.torchscript has no sha256" in refused(path, trust)


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "engine"])
def test_the_hash_of_every_kind_is_checked_before_a_backend_is_made(root: Path, kind: str) -> None:
    path = root / "digits.yaml"
    if kind == "engine":
        (root / "digits.engine").write_bytes(b"engine")
        sha256 = file_sha256(root / "digits.engine")
        change(path, "artifacts:  #", f"artifacts:\n  engine: {{path: digits.engine, sha256: {sha256}}} #")
    backend = {"onnx": "onnxruntime", "torchscript": "torchscript", "engine": "tensorrt"}[kind]
    model = load_model(path)
    create_backend(BackendRequest.parse(backend), model)
    artifact = root / f"digits.{kind}"
    content = bytearray(artifact.read_bytes())
    content[len(content) // 2] ^= 1
    artifact.write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"digits\.{kind} has sha256 .*, the model file says"):
        create_backend(BackendRequest.parse(backend), model)


def test_two_artifacts_in_each_others_place_are_refused(root: Path) -> None:
    onnx, script = root / "digits.onnx", root / "digits.torchscript"
    a, b = onnx.read_bytes(), script.read_bytes()
    onnx.write_bytes(b)
    script.write_bytes(a)
    model = load_model(root / "digits.yaml")
    for backend in ("onnxruntime", "torchscript"):
        with pytest.raises(ModelFileError, match="the model file says"):
            create_backend(BackendRequest.parse(backend), model)


def test_labels_are_not_taken_from_a_changed_artifact(root: Path) -> None:
    path = root / "digits.yaml"
    labels = next(line for line in path.read_text().splitlines() if line.startswith("labels"))
    change(path, labels + "\n", "")
    assert load_model(path).labels == tuple("0123456789")
    for artifact in (root / "digits.onnx", root / "digits.torchscript"):
        artifact.write_bytes(artifact.read_bytes() + b"\0")
    assert load_model(path).labels == ()


def test_settings_that_name_files_stay_in_the_root(root: Path) -> None:
    trust = Trust.of(False, [root])
    require_trusted_paths({"torchscript": {"profile_to": "", "freeze": True}}, trust)
    require_trusted_paths({"torchscript": {"profile_to": str(root / "new" / "profile.json")}}, trust)
    require_trusted_paths({"torchscript": {"profile_to": "/anywhere"}}, Trust())
    for backend, setting in (
        ("torchscript", "profile_to"),
        ("onnxruntime", "profile_to"),
        ("onnxruntime", "tensorrt_engine_cache"),
        ("tensorrt", "cache_directory"),
    ):
        with pytest.raises(ModelFileError, match=rf"{backend}\.{setting}: .* outside of"):
            require_trusted_paths({backend: {setting: str(root / ".." / "x")}}, trust)


def test_a_root_that_does_not_exist_is_an_error_and_not_no_root(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="absent is no folder"):
        Trust.of(False, [tmp_path / "absent"])
    assert Trust.of(False, [""]) == Trust()


def test_the_command_line_has_both(root: Path) -> None:
    picture = model_directory().parents[1] / "trt_perception" / "data" / "heldout_photo_coffee.jpg"
    good = trt_perception(["detect", picture, "--model", root / "digits.yaml", "--model-root", root])
    assert good.returncode == 0, good.stderr
    away = trt_perception(["detect", picture, "--model", root.parent / "outside/digits.yaml", "--model-root", root])
    assert away.returncode == 1 and f"outside of {root}" in away.stderr
    bare = trt_perception(["detect", picture, "--model", root / "digits.onnx", "--require-checksum"])
    assert bare.returncode == 1 and "comes without a sha256" in bare.stderr
