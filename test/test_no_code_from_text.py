"""No text that a user or a message gives becomes a command of a shell, Python code or a pickled object."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("trt_perception/**/*.py"), *ROOT.glob("launch/*.py"), *ROOT.glob("tools/setup/*.py")])

# Functions that hand a text to a shell or run it as code, or load objects that can.
FORBIDDEN = frozenset(
    {
        "os.system",
        "os.popen",
        "subprocess.getoutput",
        "subprocess.getstatusoutput",
        "asyncio.create_subprocess_shell",
        "pty.spawn",
        "eval",
        "exec",
        "compile",
        "pickle.load",
        "pickle.loads",
        "marshal.loads",
        "shelve.open",
        "torch.load",
        "joblib.load",
        "yaml.load",
        "yaml.load_all",
        "yaml.unsafe_load",
        "yaml.full_load",
        "tarfile.extractall",
        "shutil.unpack_archive",
        "tempfile.mktemp",
    }
)
FORBIDDEN_METHODS = frozenset({"extractall"})
SHELLS = frozenset({"sh", "bash", "/bin/sh", "/bin/bash", "cmd", "cmd.exe"})


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.List | ast.Tuple) and node.elts:
            first = node.elts[0]
            if isinstance(first, ast.Constant) and first.value in SHELLS:
                found.append(f"line {node.lineno}: a command that begins with {first.value}")
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in FORBIDDEN or name.rpartition(".")[2] in FORBIDDEN_METHODS:
            found.append(f"line {node.lineno}: {name}")
        for keyword in node.keywords:
            constant: object = keyword.value.value if isinstance(keyword.value, ast.Constant) else "?"
            if keyword.arg in ("shell", "allow_pickle") and constant is not False:
                found.append(f"line {node.lineno}: {name}({keyword.arg}={constant!r})")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_of_the_sort_is_called(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os; os.system(x)",
        "subprocess.run(x, shell=True)",
        "subprocess.run(x, shell=wanted)",
        "subprocess.run(['sh', '-c', x])",
        "eval(x)",
        "pickle.loads(x)",
        "np.load(x, allow_pickle=True)",
        "torch.load(x)",
        "yaml.load(x, Loader=yaml.Loader)",
        "archive.extractall(x)",
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str) -> None:
    assert offences(source)
