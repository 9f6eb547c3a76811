"""Generates, compiles and installs the packages under interfaces/ into `.venv`; runs in `.venv`.

`python -m tools.setup.messages` does it again at any time. What it installs is what a ROS distribution installs:
lib/, share/<package>/, the package index and the Python package.
"""

from __future__ import annotations

import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from tools.setup.layout import MESSAGE_PACKAGES, Checkout, this_checkout
from tools.setup.message_code import generate
from tools.setup.message_libraries import Package, Toolchain, compile_packages, link_package

# The type descriptions of a package need those of all packages that it uses, directly or not.
INDIRECT_USES = ("builtin_interfaces",)


def build(checkout: Checkout) -> None:
    """Generates, compiles and installs every package under interfaces/."""
    work = checkout.work / "messages"
    shutil.rmtree(work, ignore_errors=True)
    packages = tuple(_generated(checkout, name, work / name) for name in MESSAGE_PACKAGES)
    toolchain = Toolchain(checkout.venv, Path(np.get_include()), len(os.sched_getaffinity(0)))
    compile_packages(packages, toolchain)
    for package in packages:
        modules = checkout.site_packages() / package.name
        _install_python(package, modules)
        link_package(package, toolchain, modules)
        _install_share(checkout, package)
        print(f"installed {package.name}")
    shutil.rmtree(work)


def _generated(checkout: Checkout, name: str, code: Path) -> Package:
    source = checkout.interfaces / name
    uses = tuple(tag.text or "" for tag in ElementTree.parse(source / "package.xml").getroot().iter("depend"))
    shares = tuple(checkout.venv / "share" / used for used in (*uses, *INDIRECT_USES))
    generate(source, shares, code)
    return Package(name, code, (*uses, *INDIRECT_USES))


def _install_python(package: Package, modules: Path) -> None:
    shutil.rmtree(modules, ignore_errors=True)
    (modules / "msg").mkdir(parents=True)
    (modules / "__init__.py").touch()
    for file in (package.code / "msg").glob("*.py"):
        shutil.copy(file, modules / "msg" / file.name)


def _install_share(checkout: Checkout, package: Package) -> None:
    share = checkout.venv / "share" / package.name
    shutil.rmtree(share, ignore_errors=True)
    (share / "msg").mkdir(parents=True)
    source = checkout.interfaces / package.name
    shutil.copy(source / "package.xml", share / "package.xml")
    described = [*(package.code / "msg").glob("*.idl"), *(package.code / "msg").glob("*.json")]
    for file in (*described, *(source / "msg").glob("*.msg")):
        shutil.copy(file, share / "msg" / file.name)
    interfaces = sorted(f"msg/{file.name}" for file in (share / "msg").iterdir() if file.suffix in (".idl", ".msg"))
    index = checkout.venv / "share" / "ament_index" / "resource_index"
    entries = {
        "packages": "",
        "package_run_dependencies": ";".join(package.uses),
        "rosidl_interfaces": "\n".join(interfaces),
    }
    for kind, content in entries.items():
        (index / kind).mkdir(parents=True, exist_ok=True)
        (index / kind / package.name).write_text(content, encoding="utf-8")


def main() -> int:
    """Builds the messages of the checkout that this file belongs to."""
    try:
        build(this_checkout())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
