"""One provider of ONNX Runtime: not whether it is listed, but whether a session on it really loads and computes."""

from __future__ import annotations

from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level, missing
from trt_perception.doctor.probes.distributions import import_facts, installed
from trt_perception.telemetry import decline_telemetry

_INSTALL = "`pip install onnxruntime`, for a GPU `pip install onnxruntime-gpu`"
_CPU = "CPUExecutionProvider"

# y = x + x on three floats, opset 13: a ModelProto written by hand, field by field as onnx.proto3 numbers them.
_NODE = b"\x0a\x01x\x0a\x01x\x12\x01y\x22\x03Add"
_TYPE = b"\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x03"
_INPUT, _OUTPUT = (b"\x0a\x01" + name + b"\x12" + bytes([len(_TYPE)]) + _TYPE for name in (b"x", b"y"))
_GRAPH = b"".join(
    tag + bytes([len(part)]) + part
    for tag, part in ((b"\x0a", _NODE), (b"\x12", b"g"), (b"\x5a", _INPUT), (b"\x62", _OUTPUT))
)
TINY_MODEL = b"\x08\x07" + b"\x3a" + bytes([len(_GRAPH)]) + _GRAPH + b"\x42\x02\x10\x0d"


def look(argument: str) -> dict[str, Any]:
    """argument: the provider. `loaded` is what the session says that it runs on; `right` whether 1 + 1 is 2."""
    decline_telemetry()
    facts = {**import_facts("onnxruntime"), "provider": argument, "distributions": installed(r"onnxruntime(-[a-z]+)?")}
    if "version" not in facts:
        return facts
    import numpy as np
    import onnxruntime

    from trt_perception.backends.onnxruntime_runtime.library import load_cuda_libraries

    if argument != _CPU:
        load_cuda_libraries(onnxruntime)
    facts["listed"] = onnxruntime.get_available_providers()
    if argument not in facts["listed"]:
        return facts
    try:
        session = onnxruntime.InferenceSession(TINY_MODEL, providers=[argument])
        facts["loaded"] = session.get_providers()
        (doubled,) = session.run(None, {"x": np.array([1, 2, 3], np.float32)})
        facts["right"] = [float(v) for v in doubled] == [2.0, 4.0, 6.0]
    except Exception as error:  # the library's exceptions derive from nothing narrower
        facts["load_error"] = " ".join(str(error).split())[:600]
    return facts


def judge(facts: Facts, driver: Facts) -> Judgement:
    """A provider that is listed and does not load is the silent fallback to the CPU."""
    if (problem := missing(facts, _INSTALL)) is not None:
        return problem
    provider, builds = str(facts["provider"]), list(facts["distributions"])
    words = f"{facts['version']}, {provider}"
    if len(builds) > 1:
        return Judgement(
            Level.FAILED,
            f"{len(builds)} builds installed over each other ({', '.join(builds)})",
            f"`pip uninstall {' '.join(builds)}`, then {_INSTALL}",
        )
    if provider not in facts["listed"]:
        level = Level.FAILED if provider == _CPU else Level.ABSENT
        remedy = "if you want it: `pip uninstall onnxruntime`, then `pip install onnxruntime-gpu`"
        return Judgement(level, f"{words}: not in this build (it has {', '.join(facts['listed'])})", remedy)
    if "load_error" in facts:
        return Judgement(
            Level.FAILED, f"{words} does not load: {facts['load_error']}", "see the driver and cuDNN lines"
        )
    if facts["loaded"][0] != provider:
        return Judgement(
            Level.FAILED,
            f"{words} is listed but does not load: sessions silently run on {facts['loaded'][0]}",
            "install the CUDA and cuDNN that this build wants: `pip install onnxruntime-gpu[cuda,cudnn]`; see the "
            "driver and cuDNN lines",
        )
    if not facts["right"]:
        return Judgement(Level.FAILED, f"{words} loads and computes wrong results", _INSTALL)
    return Judgement(Level.OK, f"{words} loads and computes")
