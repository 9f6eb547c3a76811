"""Dependencies point down, heavy libraries stay out until they are used, and each is imported in one place."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "trt_perception"
ROOT = Path(__file__).parents[1] / PACKAGE

# From the bottom to the top. A module may import from its own layer and from those below it; a name stands for the
# module and for all that is inside it.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "stage_ranges",
        "errors",
        "dds_environment",
        "checksum",
        "atomic_file",
        "file_lock",
        "statistics",
        "own_process",
        "onnx_package",
        "telemetry",
        "watchdog_process",
        "inference_watchdog",
    ),
    (
        "types",
        "located_yaml",
        "model_file",
        "model_file_reader",
        "models",
        "artifact_metadata",
        "external_data",
        "trust",
        "protobuf_fields",
        "onnx_nodes",
        "onnx_precision",
        "onnx_tensors",
        "backend_request",
        "resources",
        "picture_header",
        "pixel_layouts",
        "placement",
        "encodings",
    ),
    ("glyphs", "scene_composer", "heldout", "moving_scene", "scenes", "sources", "evaluation", "control_budget"),
    ("preprocess", "nms", "class_choice", "heads", "backends", "annotate"),
    ("postprocess",),
    ("plain_path",),
    ("detector",),
    ("camera_turns", "live_frames", "waiting_frames"),
    ("live", "fallback_chain", "latency", "engine", "benchmark", "doctor", "inspection", "onnx_report", "model_writer"),
    ("ros",),
    ("cli",),
)

# Neighbours that know nothing of each other: the first does not import the second.
STRANGERS = (
    ("heads", "backends"),
    ("heads", "preprocess"),
    ("backends", "heads"),
    ("backends", "preprocess"),
    ("preprocess", "backends"),
    ("nms", "heads"),
    ("live", "engine"),
)

# What is imported in one module or package only, and in which.
ONLY_IN = {
    "argparse": "cli",
    "rich": "cli",
    "rclpy": "ros",
    "cv_bridge": "ros",
    "rcl_interfaces": "ros",
    "yaml": "located_yaml",
    "matplotlib": "control_budget.picture",
    "onnx": "onnx_package",
    "nvtx": "stage_ranges",
    "onnxruntime": "backends.onnxruntime_runtime.library",
    "torch": "backends.torchscript_backend",
    "tensorrt": "backends.tensorrt_runtime",
    "pycuda": "backends.tensorrt_runtime",
}
MESSAGES_ONLY_IN = "ros"

# They import what they look at, in a process of its own each.
PROBES = "doctor.probes"

# Each of these is imported by one module of the whole package.
HEAVY = ("torch", "onnxruntime", "tensorrt", "pycuda")
NEVER_LOADED_EARLY = (*HEAVY, "onnx", "cv_bridge", "rclpy", "matplotlib", "nvtx")


@cache
def modules() -> dict[str, Path]:
    """Every module by its name inside the package; the package itself is the empty name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Full names of what a module imports, at its top or inside a function, by statement or by import_module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: imports are absolute here"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            first = node.args[0]
            if isinstance(first, ast.Constant):
                found.add(str(first.value))
    return frozenset(found)


def own_imports(module: str) -> set[str]:
    """The package's own modules that a module imports."""
    found = set()
    for name in imports(module):
        head, _, rest = name.partition(".")
        if head == PACKAGE:
            found.add(rest if rest in modules() else rest.rpartition(".")[0])
    return found - {""}


def inside(module: str, area: str) -> bool:
    return module == area or module.startswith(f"{area}.")


def layer_of(module: str) -> int | None:
    return next((i for i, names in enumerate(LAYERS) if any(inside(module, name) for name in names)), None)


def importers(library: str) -> Iterator[str]:
    return (m for m in modules() if not inside(m, PROBES) and any(inside(name, library) for name in imports(m)))


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- the rules, read from the source --------------------------------------------------------------------------


@pytest.mark.parametrize("module", [m for m in modules() if m])
def test_a_module_imports_from_its_layer_and_those_below(module: str) -> None:
    own = layer_of(module)
    assert own is not None, f"{module} stands in no layer: add it to LAYERS, as far down as its imports allow"
    for imported in own_imports(module):
        below = layer_of(imported)
        assert below is not None and below <= own, f"{module} (layer {own}) imports {imported} (layer {below})"


@pytest.mark.parametrize(("module", "stranger"), STRANGERS)
def test_strangers_stay_strangers(module: str, stranger: str) -> None:
    met = {(m, i) for m in modules() if inside(m, module) for i in own_imports(m) if inside(i, stranger)}
    assert not met


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_where_it_belongs(library: str) -> None:
    elsewhere = [m for m in importers(library) if not inside(m, ONLY_IN[library])]
    assert not elsewhere, f"{library} belongs into {ONLY_IN[library]}"


@pytest.mark.parametrize("library", HEAVY)
def test_a_heavy_library_is_imported_in_one_module(library: str) -> None:
    assert len(list(importers(library))) <= 1


def test_messages_are_for_the_nodes() -> None:
    for module in modules():
        packages = {name.split(".")[0] for name in imports(module)}
        messages = {p for p in packages if p.endswith(("_msgs", "_srvs", "_interfaces"))}
        assert not messages or inside(module, MESSAGES_ONLY_IN), f"{module} imports {messages}"


def test_no_circle() -> None:
    graph = {module: own_imports(module) - {module} for module in modules() if module}
    graphlib.TopologicalSorter(graph).prepare()


def test_the_scan_sees_what_it_is_to_judge() -> None:
    assert {"onnxruntime", "torch"} <= {library for library in HEAVY if list(importers(library))}
    assert "backends.base" in own_imports("backends.torchscript_backend")
    assert any(inside(m, "ros") for m in importers("rclpy"))


# --- the same, seen in a running interpreter ------------------------------------------------------------------


def test_importing_the_package_loads_next_to_nothing() -> None:
    loaded = run_python(
        f"import sys, {PACKAGE}; print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'cv2')])"
    )
    assert loaded == "[]"


def test_the_core_and_the_command_line_load_no_heavy_library() -> None:
    names = [f"{PACKAGE}.{m}" for m in modules() if m and not inside(m, "ros")]
    code = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
        f"print([m for m in {NEVER_LOADED_EARLY} if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_the_nodes_load_no_inference_library() -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed", exc_type=ImportError)
    names = [f"{PACKAGE}.{m}" for m in modules() if inside(m, "ros")]
    code = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_pictures_are_detected_without_ros_or_torch() -> None:
    code = f"""
import sys
for name in ("rclpy", "torch", "tensorrt", "pycuda", "cv_bridge", "sensor_msgs", "matplotlib", "rich"):
    sys.modules[name] = None  # an import of it fails
import numpy as np
from {PACKAGE} import Detector
with Detector.open("digits", "onnxruntime:cpu") as detector:
    result = detector.detect(np.zeros((240, 320, 3), np.uint8))
print(len(result.detections))
from {PACKAGE}.cli.main import main
main(["detect", "--help"])
"""
    assert run_python(code).startswith("0\nusage: trt-perception detect")


# --- what the package offers ----------------------------------------------------------------------------------


def test_every_public_name_loads() -> None:
    import trt_perception

    for name in trt_perception.__all__:
        assert getattr(trt_perception, name).__name__ == name
    assert set(trt_perception.__all__) <= set(dir(trt_perception))
    with pytest.raises(AttributeError, match="has no attribute 'Detektor'; it offers BackendError"):
        _ = trt_perception.Detektor


def test_the_lazy_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(modules()[""].read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        (str(node.module).removeprefix(f"{PACKAGE}."), alias.name)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    import trt_perception

    assert {(module, name) for name, module in trt_perception._MODULE_OF.items()} == seen
    assert set(trt_perception.__all__) == {name for _, name in seen}
