"""Generates C, C++ and Python code for one message package with the generators that come as ROS wheels.

Runs in `.venv`. The generators' classes are called directly: the wheels register each of them twice as a plug-in,
and the plug-in loader then refuses or complains.
"""

from __future__ import annotations

from pathlib import Path

from rosidl_adapter.cli import TranslateMsgToIDL
from rosidl_generator_c.cli import GenerateC
from rosidl_generator_py.cli import GeneratePython
from rosidl_generator_type_description.cli import HashTypeDescription
from rosidl_typesupport_c.cli import GenerateCTypesupport
from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

TYPE_SUPPORT_GENERATORS = (
    GenerateFastRTPSCTypesupport,
    GenerateIntrospectionCTypesupport,
    GenerateCTypesupport,
    GeneratePython,
)


def generate(package: Path, dependencies: tuple[Path, ...], output: Path) -> None:
    """Writes the code of the package in the folder `package` under `output`.

    Args:
        package: folder named after the package, with package.xml and msg/*.msg.
        dependencies: share folders of the message packages that it uses, with their .idl and .json files.
        output: folder named after the package, so that generated #include lines resolve from its parent.
    """
    name = package.name
    sources = [f"{package}:msg/{file.name}" for file in sorted((package / "msg").glob("*.msg"))]
    shares = [str(folder) for folder in dependencies]
    idl_files = TranslateMsgToIDL("msg2idl").translate(name, sources, shares, output)
    descriptions = HashTypeDescription("hash").generate_type_hashes(name, idl_files, shares, output_path=output)
    GenerateC("c").generate(name, idl_files, shares, output, type_description_files=descriptions)
    for generator in TYPE_SUPPORT_GENERATORS:
        generator(generator.__name__).generate(name, idl_files, shares, output)
