"""Records which names TensorRT's Python bindings have, without a GPU and without TensorRT's libraries.

    python -m tools.tensorrt.record_names OUT.json WHEEL...     (wheels of tensorrt_*bindings, or of tensorrt 8.6)

The bindings only link to a few functions of the libraries, which stand-ins made by gcc satisfy; nothing is called.
Run it with the Python version that the wheels are for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Everything that trt_perception names in the library, by the class that has it.
CLASSES = (
    "Builder",
    "BuilderFlag",
    "DataType",
    "HardwareCompatibilityLevel",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IInt8EntropyCalibrator2",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IPluginRegistry",
    "IProgressMonitor",
    "ITimingCache",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "PreviewFeature",
    "ProfilingVerbosity",
    "Runtime",
    "TacticSource",
    "TensorIOMode",
)
_CHILD = """
import importlib, json, sys
library = importlib.import_module(sys.argv[1])
names = {c: sorted(n for n in dir(getattr(library, c)) if not n.startswith("_"))
         for c in json.loads(sys.argv[2]) if hasattr(library, c)}
names["module"] = sorted(n for n in dir(library) if not n.startswith("_") and n[0].islower())
print(json.dumps({library.__version__: names}))
"""


def record(wheel: Path) -> dict[str, dict[str, list[str]]]:
    """Version → class → its public names; `module` holds the functions."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
        extension = next(root.glob("tensorrt*/tensorrt*.so"))
        _make_stand_ins(extension, root / "stand_ins")
        environment = {**os.environ, "LD_LIBRARY_PATH": f"{root / 'stand_ins'}", "PYTHONPATH": folder}
        command = [sys.executable, "-c", _CHILD, extension.parent.name, json.dumps(CLASSES)]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, list[str]]] = json.loads(answer.stdout)
    return found


def _make_stand_ins(extension: Path, folder: Path) -> None:
    """A library for each libnv*.so that the extension links to, all with every function that it lacks."""
    folder.mkdir()
    libraries = _lines(["readelf", "-d", str(extension)], r"NEEDED.*\[(libnv[^\]]+)\]")
    functions = _lines(["nm", "-D", "--undefined-only", str(extension)], r" U ((?:create|get|init)[A-Z]\w+)$")
    source = folder / "stand_ins.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions))
    for library in libraries:
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library), str(source)], check=True
        )


def _lines(command: list[str], pattern: str) -> list[str]:
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.findall(pattern, text, re.MULTILINE)


def main() -> int:
    """Writes the record of all wheels given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("wheels", type=Path, nargs="+")
    args = parser.parse_args()
    names: dict[str, dict[str, list[str]]] = {}
    for wheel in args.wheels:
        names |= record(wheel)
    args.out.write_text(json.dumps(names, indent=1, sort_keys=True) + "\n")
    print(f"{args.out}: {', '.join(sorted(names))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
