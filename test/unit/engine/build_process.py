"""One engine build in a process of its own, with TensorRT's own work replaced by a pause and some bytes.

python -m test.unit.engine.build_process ONNX CACHE LOG BYTES PAUSE_S: appends `begin` to LOG when the work begins,
prints `built` or `found` and the engine's path; exit 1 with the message of a PerceptionError.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from trt_perception.backends.tensorrt_runtime.cuda_session import GpuIdentity
from trt_perception.engine import build
from trt_perception.engine.options import BuildOptions
from trt_perception.errors import PerceptionError


def main(onnx: str, cache: str, log: str, size: str, pause_s: str) -> int:
    def work(*_: Any) -> tuple[bytes, list[str]]:
        with Path(log).open("a") as file:
            file.write("begin\n")
        time.sleep(float(pause_s))
        return bytes(int(size)), []

    replaced: Any = build
    replaced.load_tensorrt = fake_tensorrt
    replaced.gpu_identity = lambda _: GpuIdentity("NVIDIA H200", "9.0", 2**37)
    replaced._native = work
    try:
        result = build.build_engine(BuildOptions(Path(onnx), cache=cache, fp16=True))
    except PerceptionError as error:
        print(error, file=sys.stderr)
        return 1
    print("built" if result.built else "found", result.engine)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
