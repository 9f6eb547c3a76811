"""Compiles the generated code of message packages with gcc and g++, without CMake.

Each package becomes the five libraries that every ROS message package has, and the extension modules through which
rclpy reaches them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

C_FLAGS = ("gcc", "-std=gnu11", "-O2", "-fPIC", "-w")
CPP_FLAGS = ("g++", "-std=c++17", "-O2", "-fPIC", "-w")

# Suffix of the library, and the generated sources that it is made of.
LIBRARIES = (
    ("rosidl_generator_c", ("msg/detail/*__functions.c", "msg/detail/*__description.c")),
    ("rosidl_typesupport_fastrtps_c", ("msg/detail/*__type_support_c.cpp",)),
    ("rosidl_typesupport_introspection_c", ("msg/detail/*__type_support.c",)),
    ("rosidl_typesupport_c", ("msg/*__type_support.cpp",)),
    ("rosidl_generator_py", ("msg/_*_s.c",)),
)
EXTENSION_MODULES = ("rosidl_typesupport_c", "rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")

RUNTIME_LIBRARIES = (
    "rosidl_runtime_c",
    "rosidl_typesupport_c",
    "rosidl_typesupport_fastrtps_c",
    "rosidl_typesupport_fastrtps_cpp",
    "rosidl_typesupport_introspection_c",
    "fastcdr",
    "rmw",
    "rcutils",
    "rosidl_dynamic_typesupport",
)


@dataclass(frozen=True)
class Package:
    """A package whose code was generated.

    Attributes:
        name: the package's name.
        code: folder of the generated code, named after the package.
        uses: names of the message packages whose libraries it needs.
    """

    name: str
    code: Path
    uses: tuple[str, ...]


@dataclass(frozen=True)
class Toolchain:
    """Where headers and libraries lie.

    Attributes:
        prefix: prefix of the ROS wheels (the virtual environment), with include/ and lib/.
        numpy_headers: folder of NumPy's C headers.
        jobs: how many compilers may run at once.
    """

    prefix: Path
    numpy_headers: Path
    jobs: int

    def include_flags(self, package: Package) -> list[str]:
        """Returns the -I options for the code of `package`."""
        include = self.prefix / "include"
        # ROS packages keep their headers in a folder of their own; Fast CDR and Fast DDS do not.
        ros = sorted(folder for folder in include.iterdir() if (folder / folder.name).is_dir())
        folders = [package.code.parent, *ros, include, Path(sysconfig.get_path("include")), self.numpy_headers]
        return [f"-I{folder}" for folder in folders]


def compile_packages(packages: tuple[Package, ...], toolchain: Toolchain) -> None:
    """Compiles all sources of all packages, as many at once as allowed; objects lie beside their sources."""
    commands = []
    for package in packages:
        includes = toolchain.include_flags(package)
        for source in sorted([*package.code.rglob("*.c"), *package.code.rglob("*.cpp")]):
            flags = CPP_FLAGS if source.suffix == ".cpp" else C_FLAGS
            commands.append([*flags, *includes, "-c", str(source), "-o", f"{source}.o"])
    with ThreadPoolExecutor(toolchain.jobs) as pool:
        list(pool.map(run, commands))


def link_package(package: Package, toolchain: Toolchain, modules: Path) -> None:
    """Links the libraries of `package` into the prefix's lib/ and its extension modules into `modules`.

    Libraries find each other beside themselves ($ORIGIN), so that they load from any folder and environment.
    """
    libraries = toolchain.prefix / "lib"
    done: list[str] = []
    for suffix, patterns in LIBRARIES:
        objects = sorted(f"{source}.o" for pattern in patterns for source in package.code.glob(pattern))
        used = [*done, *(f"{name}__{kind}" for name in package.uses for kind, _ in LIBRARIES)]
        _link(objects, libraries / f"lib{package.name}__{suffix}.so", libraries, used, "$ORIGIN")
        done.append(f"{package.name}__{suffix}")
    to_libraries = f"$ORIGIN/{os.path.relpath(libraries, modules)}"
    for suffix in EXTENSION_MODULES:
        objects = [f"{package.code / f'_{package.name}_s.ep.{suffix}.c'}.o"]
        target = modules / f"{package.name}_s__{suffix}.so"
        # Python's own symbols come from the interpreter that loads the module.
        _link(objects, target, libraries, done, to_libraries)


def _link(objects: list[str], target: Path, libraries: Path, used: list[str], search: str) -> None:
    if not objects:
        raise RuntimeError(f"No generated sources for {target.name}: the generators' file names have changed")
    names = [f"-l{name}" for name in (*used, *RUNTIME_LIBRARIES)]
    searches = (f"-Wl,-rpath,{search}", f"-Wl,-rpath-link,{libraries}")
    run(["g++", "-shared", "-o", str(target), *objects, f"-L{libraries}", "-Wl,--as-needed", *names, *searches])


def run(command: list[str]) -> None:
    """Runs one compiler command; a failure raises RuntimeError with the command and what the compiler said."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}\n{result.stdout}{result.stderr}")
