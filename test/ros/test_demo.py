"""The demo as a person runs it, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("onnxruntime", reason="the demo's default backend")

from rich.console import Console

from test.commands import trt_perception
from test.domains import private_domain
from trt_perception.cli import demo_report
from trt_perception.cli.demo_report import account, all_accounted, live_view, make_folder, render, write_outputs
from trt_perception.control_budget import BudgetThresholds
from trt_perception.control_budget.terminal import BudgetView
from trt_perception.errors import PerceptionError
from trt_perception.ros import node_processes as processes
from trt_perception.ros.demo_observer import Seen
from trt_perception.ros.node_processes import NodeCommand, NodeProcess, node_processes
from trt_perception.ros.wait_for_nodes import wait_until

DETECTOR, INPUT, CAMERA = "detector: inference", "detector: input image", "camera: camera"


def demo(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return trt_perception(["demo", *words], ROS_DOMAIN_ID=str(private_domain()))


def test_the_demo_accounts_for_every_picture_and_writes_three_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws budget.png")
    done = demo("--seconds", "3", "--rate", "10", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "out" / "latency.json").read_text(encoding="utf-8"))
    frames = document["frames"]
    assert frames["sent"] == 30
    assert frames["sent"] == frames["processed"] + frames["dropped"] + frames["lost"]
    assert f"frames: 30 sent, {frames['processed']} processed" in done.stdout
    assert document["inference"]["backend"] == "onnxruntime"
    assert document["stages"]["inference_ms"]["count"] == frames["processed"]
    assert 0 < document["control_budget"]["inference_share_p99_percent"] <= 100
    assert document["control_budget"]["sentence"].startswith("inference uses")
    pictures = [cv2.imread(str(tmp_path / "out" / name)) for name in ("annotated.png", "budget.png")]
    assert all(picture is not None and picture.std() > 5 for picture in pictures)
    assert done.stdout.count("wrote ") == 3


def test_a_model_that_is_not_there_is_told_by_the_detector(tmp_path: Path) -> None:
    done = demo("--model", tmp_path / "absent.yaml", "--seconds", "1", "--output", tmp_path)
    assert done.returncode == 1
    told = f"the detector is not active: {tmp_path / 'absent.yaml'} cannot be read (No such file or directory)"
    assert done.stderr.startswith(f"trt-perception demo: {told}")
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_made_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = demo("--output", tmp_path / "file" / "out")
    assert done.returncode == 1
    assert "cannot be made (Not a directory); give --output another one" in done.stderr
    assert "starting the nodes" not in done.stdout


def seen(**changes: Any) -> Seen:
    """A run in which 10 pictures were sent, one of which was lost and two of which were dropped."""
    counts = {"received_count": "9", "processed_count": "7", "dropped_count": "2", "lost_count": "1"}
    return Seen(
        **{
            "samples": {"inference_ms": [1.0, 2.0, 3.0], "received_count": [9.0], "empty_ms": []},
            "diagnostics": {
                DETECTOR: (0, "onnxruntime on cpu, fp32", {"device_name": "a processor"}),
                INPUT: (0, "0.0 Hz arrive", {**counts, "arriving_hz": "0.0"}),
                CAMERA: (0, "finished", {"sent_count": "10"}),
            },
            "budget": BudgetView({"verdict_level": 0.0}, "inference uses 10 %", []),
            "budget_shares": [(0, 0.1), (20_000_000, 0.2)],
            "budget_thresholds": BudgetThresholds(),
            "found": ["three 0.93"],
            "picture": np.zeros((8, 8, 3), np.uint8),
            **changes,
        }
    )


def text_of(state: Seen) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(render(state))
    return captured.get()


def test_the_table_shows_stages_in_ms_and_what_was_found() -> None:
    text = text_of(seen())
    assert "onnxruntime on cpu, fp32" in text
    assert "inference" in text and "2.00" in text and "3.00" in text
    assert "empty" not in text
    assert "frames so far: 9 received, 7 processed, 2 dropped, 1 lost" in text
    assert "detections: three 0.93" in text and "control budget: inference uses 10 %" in text


def test_the_table_says_what_is_not_known_yet() -> None:
    text = text_of(Seen())
    assert "frames so far: 0 received" in text
    assert "detections: none" in text and "control budget: not known yet" in text


def test_every_picture_is_accounted_for() -> None:
    assert account(seen()) == "frames: 10 sent, 7 processed, 2 dropped, 1 lost"
    assert all_accounted(seen())
    assert not all_accounted(Seen())
    running = seen()
    running.diagnostics[CAMERA] = (0, "sends", {"sent_count": "10"})
    assert not all_accounted(running)
    busy = seen()
    busy.diagnostics[INPUT] = (0, "9 Hz arrive", {"arriving_hz": "9.0"})
    assert not all_accounted(busy)


def test_without_a_terminal_a_table_comes_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with live_view() as show:
        show(seen())
        assert capsys.readouterr().out == ""
        monkeypatch.setattr(demo_report, "_PLAIN_PERIOD_S", 0.0)
        show(seen())
    assert "frames so far: 9 received" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ({"picture": None}, "no annotated image came"),
        ({"budget": None}, "no control_budget came"),
        ({"budget_thresholds": None}, "no control_budget came"),
    ],
)
def test_what_did_not_come_is_said_and_nothing_is_written(tmp_path: Path, missing: Any, reason: str) -> None:
    with pytest.raises(PerceptionError, match=reason):
        write_outputs(tmp_path, seen(**missing), 1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(PerceptionError, match=r"cannot be written \(No such file or directory\); give --output"):
        write_outputs(tmp_path / "gone", seen(), 1.0)
    make_folder(tmp_path / "new" / "deep")
    assert (tmp_path / "new" / "deep").is_dir()


@dataclass
class Watched:
    """Stands for the observer: what it has seen so far."""

    state: Seen

    @contextmanager
    def looking(self) -> Iterator[Seen]:
        yield self.state


def wait(state: Seen, nodes: list[NodeProcess], limit_s: float = 0.2) -> None:
    observer: Any = Watched(state)
    wait_until(observer, nodes, lambda s: bool(s.found), "nothing was found", limit_s)


def test_waiting_ends_when_it_is_ready() -> None:
    wait(seen(), [])


def test_waiting_ends_at_once_where_a_node_says_that_it_cannot_run() -> None:
    state = Seen(diagnostics={DETECTOR: (2, "no such model", {}), "other: thing": (2, "unrelated", {})})
    with pytest.raises(PerceptionError, match=r"^nothing was found: no such model$"):
        wait(state, [], limit_s=30.0)


def test_waiting_too_long_tells_what_the_nodes_say() -> None:
    with pytest.raises(PerceptionError, match=r"nothing was found within 0 s; the nodes say: nothing$"):
        wait(Seen(), [])
    state = Seen(diagnostics={INPUT: (2, "nobody publishes /image", {})})
    with pytest.raises(PerceptionError, match=r"say: detector: input image: nobody publishes /image$"):
        wait(state, [])


def test_a_node_that_ends_is_told_with_its_last_words() -> None:
    with node_processes([NodeCommand("no_such_node")], os.environ) as nodes:
        assert nodes[0].process.wait(30.0) == 2
        with pytest.raises(PerceptionError, match=r"no_such_node ended with exit code 2: there is no node"):
            wait(Seen(), nodes, limit_s=30.0)


def test_a_node_that_does_not_end_by_itself_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_END_TIMEOUT_S", 0.2)
    deaf = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"deaf\n"
        processes.end_process(process)
        assert process.returncode == -signal.SIGKILL
