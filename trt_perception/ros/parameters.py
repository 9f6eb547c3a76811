"""Parameters as tables: a name, a default, a range, a description, and whether it may change while running."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from trt_perception.backends import backend_class, backend_table
from trt_perception.errors import PerceptionError

_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    tuple: Parameter.Type.STRING_ARRAY,
}


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter of a node.

    default: its type is the parameter's; a tuple stands for an array of texts or of whole numbers. minimum, maximum:
    bounds of a number, both or none. choices: the only texts allowed. read_only: fixed once the node runs.
    """

    name: str
    default: bool | int | float | str | tuple[str, ...] | tuple[int, ...]
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows and rclpy enforces: type, range, read-only."""
        descriptor = ParameterDescriptor(
            name=self.name,
            type=self._type().value,
            description=self.description,
            read_only=self.read_only,
        )
        if self.choices:
            descriptor.additional_constraints = f"one of {', '.join(self.choices)}"
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, float):
                bounds = FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
                descriptor.floating_point_range = [bounds]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum))]
        return descriptor

    def _type(self) -> Parameter.Type:
        if isinstance(self.default, tuple) and self.default and isinstance(self.default[0], int):
            return Parameter.Type.INTEGER_ARRAY
        return _TYPES[type(self.default)]

    def problem_with(self, value: Any) -> str | None:
        """What is wrong with a value that has the right type and range, None when nothing is."""
        if self.choices and value not in self.choices:
            return f"{self.name} is {value!r}; expected one of {', '.join(self.choices)}"
        return None


def declare_parameters(node: Node, specs: Iterable[ParameterSpec]) -> None:
    """Declares every parameter of the table on the node.

    Overrides (command line, parameter file) win over the defaults; one of the wrong type or out of range raises
    rclpy's own exception, which names the parameter.
    """
    for spec in specs:
        # rclpy takes an empty list for an array of bytes; one empty text stands for it.
        default = (list(spec.default) or [""]) if isinstance(spec.default, tuple) else spec.default
        _fit_override(node, spec)
        value = node.declare_parameter(spec.name, default, spec.descriptor()).value
        problem = spec.problem_with(value)
        if problem is not None:
            raise PerceptionError(f"parameter {problem}")


def _fit_override(node: Node, spec: ParameterSpec) -> None:
    """Takes `30` for a number that may have a fraction, `0` for a text, and one element for an array.

    YAML reads these as another type than the parameter's, which rclpy would refuse.
    """
    override = node._parameter_overrides.get(spec.name)
    if override is None:
        return
    value, kind = override.value, type(spec.default)
    if type(value) is int and kind in (float, str):
        value = kind(value)
    elif type(value) in (str, int) and kind is tuple:
        value = [value]
    else:
        return
    node._parameter_overrides[spec.name] = Parameter(spec.name, value=value)


def backend_setting_specs() -> list[ParameterSpec]:
    """`<backend>.<setting>` for every setting of every backend, as its Settings class declares it."""
    specs: list[ParameterSpec] = []
    for name in sorted(backend_table()):
        settings = backend_class(name).Settings
        for entry in fields(settings):
            description = f"Setting of the {name} backend, used when it is opened next. {settings.__doc__}"
            specs.append(
                ParameterSpec(f"{name}.{entry.name}", getattr(settings(), entry.name), " ".join(description.split()))
            )
    return specs
