"""`trt-perception detect` as a person runs it: output, files, messages and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from test.commands import ROOT, trt_perception
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Uint8Array


def write(path: Path, pixels: Uint8Array) -> None:
    good, data = cv2.imencode(path.suffix, pixels)
    assert good
    path.write_bytes(data.tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index, scene in enumerate(heldout_scenes(3, 320, 240, 5)):
        write(folder / f"scene {index}.png", scene.image_bgr)
    return folder


def test_json_says_everything_about_every_picture(folder: Path) -> None:
    done = trt_perception(["detect", folder, "--json"])
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {"model", "head", "backend", "images", "unreadable"}
    assert document["head"] == {"name": "yolov8", "reason": "the model file names it"}
    assert document["model"] == "digits"
    backend = document["backend"]
    assert (backend["backend"], backend["requested"], backend["device"]) == ("onnxruntime", "onnxruntime", "cpu")
    assert backend["fallback_reason"] is None
    assert [image["name"] for image in document["images"]] == [f"scene {i}.png" for i in range(3)]
    for image in document["images"]:
        assert (image["width_px"], image["height_px"]) == (320, 240)
        assert set(image["times_ms"]) == {"preprocess_ms", "inference_ms", "postprocess_ms"}
        assert all(value >= 0 for value in image["times_ms"].values())
        for found in image["detections"]:
            left, top, right, bottom = found["box_xyxy_px"]
            assert 0 <= left <= right <= 320
            assert 0 <= top <= bottom <= 240
            assert 0 < found["score"] <= 1
            assert found["class_name"] == str(found["class_id"])
    assert sum(len(image["detections"]) for image in document["images"]) >= 3
    assert "p99" in done.stderr  # the times stand apart from the document


def test_the_boxes_are_where_the_digits_are(folder: Path) -> None:
    document = json.loads(trt_perception(["detect", folder, "--json"]).stdout)
    for scene, image in zip(heldout_scenes(3, 320, 240, 5), document["images"], strict=True):
        centers = [np.array(d["box_xyxy_px"]).reshape(2, 2).mean(axis=0) for d in image["detections"]]
        hits = sum(
            any((box[:2] <= center).all() and (center <= box[2:]).all() for box in scene.boxes_xyxy)
            for center in centers
        )
        assert hits >= 0.8 * len(centers)


def test_one_line_a_picture(folder: Path) -> None:
    done = trt_perception(["detect", folder, "--limit", "2"])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("scene 0.png: ")
    assert lines[0].endswith(" ms)")


def test_thresholds_are_honoured(folder: Path) -> None:
    counts = []
    for threshold in ("0.05", "0.99"):
        done = trt_perception(["detect", folder, "--json", "--score-threshold", threshold])
        images = json.loads(done.stdout)["images"]
        scores = [d["score"] for image in images for d in image["detections"]]
        assert all(score >= float(threshold) for score in scores)
        counts.append(len(scores))
    assert counts[0] > counts[1]


def test_save_writes_annotated_pictures_of_the_same_size(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "below"
    done = trt_perception(["detect", folder, "--save", target])
    assert done.returncode == 0, done.stderr
    saved = sorted(target.iterdir())
    assert [p.name for p in saved] == [f"00000{i}_scene_{i}.png" for i in range(3)]
    for index, path in enumerate(saved):
        original = cv2.imread(str(folder / f"scene {index}.png"))
        picture = cv2.imread(str(path))
        assert original is not None and picture is not None
        assert picture.shape == original.shape
        assert (picture != original).any()


def test_a_picture_that_cannot_be_saved_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "000000_scene_0.png").mkdir()
    done = trt_perception(["detect", folder, "--save", tmp_path])
    assert done.returncode == 1
    assert "000000_scene_0.png cannot be written (Is a directory); give --save another folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (320, 240))
    for scene in heldout_scenes(4, 320, 240, 5):
        writer.write(scene.image_bgr)
    writer.release()
    document = json.loads(trt_perception(["detect", path, "--json"]).stdout)
    assert [image["name"] for image in document["images"]] == [f"clip.avi#{i}" for i in range(4)]


def test_the_scene_with_a_limit() -> None:
    document = json.loads(trt_perception(["detect", "scene", "--limit", "2", "--json"]).stdout)
    assert [image["name"] for image in document["images"]] == ["frame 0", "frame 1"]


FAILURES: dict[str, tuple[list[str], str]] = {
    "no such source": (["nosuch"], "nosuch does not exist; give a picture, a folder, a video"),
    "no such model": (["scene", "--model", "nosuch"], "no model named 'nosuch' comes with the package"),
    "no such model file": (["scene", "--model", "nosuch.yaml"], "nosuch.yaml cannot be read"),
    "device not here": (["scene", "--backend", "onnxruntime:cuda:77"], "onnxruntime:cuda:77"),
    "folder that cannot be": (["scene", "--save", "/dev/null/x", "--limit", "1"], "cannot make the folder"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_one_line_and_exit_code_1(case: str) -> None:
    arguments, words = FAILURES[case]
    done = trt_perception(["detect", *arguments, "--json"])
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("trt-perception detect: ")
    assert words in done.stderr


WRONG_ARGUMENTS: dict[str, tuple[list[str], str]] = {
    "no command": ([], "COMMAND"),
    "unknown command": (["detekt"], "invalid choice: 'detekt'"),
    "no source": (["detect"], "source"),
    "unknown option": (["detect", "scene", "--fast"], "--fast"),
    "backend of no form": (["detect", "scene", "--backend", "onnx:runtime"], "NAME[:DEVICE][:PRECISION]"),
    "no such backend": (["detect", "scene", "--backend", "nosuch"], "there is no backend 'nosuch'; choose one of"),
    "score beyond 1": (["detect", "scene", "--score-threshold", "1.5"], "'1.5' is no number from 0 to 1"),
    "score that is none": (["detect", "scene", "--iou-threshold", "nan"], "'nan' is no number from 0 to 1"),
    "negative limit": (["detect", "scene", "--limit", "-1"], "'-1' is no whole number"),
    "limit that is none": (["detect", "scene", "--limit", "many"], "'many' is no whole number"),
}


def test_a_broken_picture_loses_none_of_the_others(folder: Path, tmp_path: Path) -> None:
    pictures = sorted(folder.iterdir())[:2]
    for name, content in zip("ac", (p.read_bytes() for p in pictures), strict=True):
        (tmp_path / f"{name}.png").write_bytes(content)
    (tmp_path / "b.png").write_bytes(b"no picture")
    done = trt_perception(["detect", tmp_path, "--json"])
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert [image["name"] for image in document["images"]] == ["a.png", "c.png"]
    assert len(document["unreadable"]) == 1
    assert "b.png is no picture that OpenCV can read" in done.stderr


def test_ctrl_c_tells_what_was_found_until_then() -> None:
    command = [sys.executable, "-m", "trt_perception.cli.main", "detect", "scene", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        # What a script starts in its background ignores SIGINT, and so would everything below it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stderr is not None
            while b"head" not in (line := process.stderr.readline()):
                assert line, "ended before it began"
            time.sleep(1.0)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert json.loads(output)["images"]


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_wrong_arguments_are_exit_code_2(case: str) -> None:
    arguments, words = WRONG_ARGUMENTS[case]
    done = trt_perception(arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_picture_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG not really")
    done = trt_perception(["detect", tmp_path])
    assert done.returncode == 1
    assert "bad.png is no picture that OpenCV can read" in done.stderr


def test_a_fallback_is_announced(folder: Path) -> None:
    done = trt_perception(
        [
            "detect",
            folder,
            "--json",
            "--allow-fallback",
            "--backend",
            "onnxruntime:cuda:77",
            "--backend",
            "onnxruntime:cpu",
        ]
    )
    assert done.returncode == 0, done.stderr
    reason = json.loads(done.stdout)["backend"]["fallback_reason"]
    assert "onnxruntime:cuda:77" in reason
    assert f"WARNING: fallback: {reason}" in done.stderr


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = [sys.executable, "-m", "trt_perception.cli.main", "detect", "scene", "--limit", "400"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"frame 0: ")
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(timeout=100) == 1
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
