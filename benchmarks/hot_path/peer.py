"""A peer on the CPU: rtmlib (Apache-2.0), whose YOLOX class brings its own pre- and post-processing.

It is installed into a folder of the benchmark's own, never into the environment, and runs in a process of its own
(`python -m benchmarks.hot_path.peer FOLDER`), on a network with YOLOX's outputs and on the detector's own session.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

from benchmarks.hot_path.blocks import Samples, Way, interleave, median, ratio
from benchmarks.hot_path.cpu import detector_way
from benchmarks.hot_path.frames import DISTINCT, SIZES, camera_frames
from benchmarks.hot_path.network import OBJECTS, SIDE_PX, THRESHOLDS, write_network
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.detector import Detector
from trt_perception.errors import PerceptionError

# tqdm is all that rtmlib imports beyond what is here already.
PACKAGES = ("rtmlib==0.0.16", "tqdm==4.67.1")
SITE = Path(__file__).resolve().parents[2] / "build" / "benchmark_peer"
ROUNDS, BLOCK = 4, 8
_INSTALL_LIMIT_S = 60
PEER = "rtmlib YOLOX"


def measure(folder: Path) -> tuple[dict[str, float], dict[str, Samples]]:
    """The figures by name, and all samples by size and network (it is not the network of the other parts).

    Raises PerceptionError where the peer cannot be installed.
    """
    _install()
    command = [sys.executable, "-m", "benchmarks.hot_path.peer", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PerceptionError(f"the peer's process failed: {done.stderr.strip()[-500:]}")
    samples: dict[str, Samples] = json.loads(done.stdout.splitlines()[-1])
    figures = {}
    for size, of_size in samples.items():
        figures[f"cpu_pre_post_vs_peer_{size}"] = ratio(of_size, ("detector", "around"), (PEER, "around"))
        figures[f"cpu_peer_pre_post_ms_{size}"] = median(of_size[PEER]["around"])
    return figures, {f"{size}, YOLOX's outputs": of_size for size, of_size in samples.items()}


def _install() -> None:
    wanted = "\n".join(PACKAGES)
    stamp = SITE / "installed.txt"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(SITE)]
    try:
        done = subprocess.run([*pip, *PACKAGES], capture_output=True, text=True, check=False, timeout=_INSTALL_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise PerceptionError(f"pip did not install {PACKAGES[0]} within {_INSTALL_LIMIT_S} s") from None
    if done.returncode != 0:
        raise PerceptionError(f"pip cannot install {PACKAGES[0]}: {done.stderr.strip().splitlines()[-1]}")
    stamp.write_text(wanted)


class _TimedSession:
    """Stands in for the peer's session: runs the detector's, and says how long that took."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.run_ns = 0

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        return self._session.get_outputs()

    def run(self, outputs: list[str], inputs: dict[str, Any]) -> Any:
        start_ns = time.monotonic_ns()
        result = self._session.run(outputs, inputs)
        self.run_ns = time.monotonic_ns() - start_ns
        return result


def _samples(folder: Path) -> dict[str, Samples]:
    sys.path.append(str(SITE))
    yolox: Any = importlib.import_module("rtmlib").YOLOX
    network = write_network(folder, layout="yolox")
    samples = {}
    with Detector.open(network.model, "onnxruntime:cpu") as detector:
        peer = yolox(str(network.onnx), (SIDE_PX, SIDE_PX), "multiclass", THRESHOLDS.iou, THRESHOLDS.score)
        session = peer.session = _TimedSession(cast(OnnxRuntimeBackend, detector._backend)._session)
        for width, height in SIZES:
            frames = camera_frames(width, height)
            found = len(peer(frames[0])[0])
            if found != OBJECTS:
                raise PerceptionError(f"the peer found {found} boxes; the network has planted {OBJECTS}")
            ways = {"detector": detector_way(detector, frames), PEER: _peer_way(peer, session, frames)}
            samples[f"{width}x{height}"] = interleave(ways, ROUNDS, BLOCK)
    return samples


def _peer_way(peer: Any, session: _TimedSession, frames: list[Any]) -> Way:
    def run(index: int) -> dict[str, int]:
        start_ns = time.monotonic_ns()
        peer(frames[index % DISTINCT])
        total_ns = time.monotonic_ns() - start_ns
        return {"total": total_ns, "around": total_ns - session.run_ns}

    return run


if __name__ == "__main__":
    print(json.dumps(_samples(Path(sys.argv[1]))))
