"""YAML that remembers where each value stood, so that every complaint can name the line and the key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from trt_perception.errors import ModelFileError

Value = TypeVar("Value")
_MAX_BYTES = 1 << 20
_MAX_INTEGER_BITS = 64
_MAX_SHOWN = 80
_TAGGED_EVENTS = (yaml.ScalarEvent, yaml.CollectionStartEvent)
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}


def read_yaml(path: Path) -> Section:
    """Reads a YAML file whose top level is a mapping.

    Aliases and tags are refused: a model file needs none, nested aliases grow without bound, and tags make values
    of types that nobody expects. Raises ModelFileError.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelFileError(
                f"{path} is larger than {_MAX_BYTES} bytes; a model file holds a few kilobytes of YAML"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}); give the path of a model file") from error
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path} is not UTF-8 text; a model file is YAML") from error
    except ValueError as error:
        raise ModelFileError(f"{str(path)!r} is no path ({error}); give the path of a model file") from error
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            where = f"{path}, line {event.start_mark.line + 1 if event.start_mark else '?'}"
            if isinstance(event, yaml.AliasEvent):
                raise ModelFileError(f"{where}: *{event.anchor} is a YAML alias; write the value out")
            if isinstance(event, _TAGGED_EVENTS) and event.tag is not None:
                raise ModelFileError(f"{where}: {event.tag} is a YAML tag; leave it out")
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ModelFileError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        raise ModelFileError(f"{path} does not hold a mapping of keys to values; see config/models/digits.yaml")
    return Section(path, "", root)


@dataclass
class Section:
    """One mapping of the file: take every key that is known, then finish(), which refuses the others."""

    path: Path
    prefix: str
    node: yaml.MappingNode
    _entries: dict[str, yaml.Node] = field(init=False)
    _taken: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._entries = {}
        for key, value in self.node.value:
            name = str(key.value)
            if name in self._entries:
                raise self._error(key, name, "stands twice; keep one of them")
            self._entries[name] = value

    def take(self, key: str, kind: type[Value], default: Value | None = None) -> Value:
        """The value of `key`, checked to be of `kind`; without a default the key must be there."""
        node = self._take_node(key)
        if node is None:
            if default is None:
                raise self._error(self.node, key, f"is missing; give {_WORDS[kind]}")
            return default
        value = self._construct(node, key)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise self._error(node, key, f"is {_shortened(value)}; expected {_WORDS[kind]}")
        return value

    def take_section(self, key: str) -> Section | None:
        """The mapping under `key`, None when the key is absent."""
        node = self._take_node(key)
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            raise self._error(
                node, key, f"is {_shortened(self._construct(node, key))}; expected a mapping of keys to values"
            )
        return Section(self.path, f"{self.prefix}{key}.", node)

    def is_mapping(self, key: str) -> bool:
        """True when `key` is there and holds a mapping."""
        return isinstance(self._entries.get(key), yaml.MappingNode)

    def is_text(self, key: str) -> bool:
        """True when `key` is there and holds a text."""
        node = self._entries.get(key)
        return isinstance(node, yaml.ScalarNode) and isinstance(self._construct(node, key), str)

    def __iter__(self) -> Iterator[str]:
        """The keys, in the order of the file."""
        return iter(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def finish(self, known: Iterable[str] = ()) -> None:
        """Raises ModelFileError for a key that nobody took: it is most likely misspelt.

        known: keys that are allowed although this file does not have them.
        """
        names = sorted(self._taken.union(known))
        for key, node in self._entries.items():
            if key not in names:
                raise self._error(node, key, f"is not known here; known keys are {', '.join(names)}")

    def invalid(self, key: str, problem: str) -> ModelFileError:
        """An error about the value of `key`, with its line."""
        return self._error(self._entries.get(key, self.node), key, problem)

    def _take_node(self, key: str) -> yaml.Node | None:
        self._taken.add(key)
        return self._entries.get(key)

    def _construct(self, node: yaml.Node, key: str) -> Any:
        """Plain Python values of a node, as YAML's safe schema reads them."""
        loader = yaml.SafeLoader("")
        try:
            value = loader.construct_object(node, deep=True)
            _require_bounded_integers(value)
        # ValueError: what looks like a date or a number to YAML and is none, such as 2024-13-01.
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise self._error(node, key, f"cannot be read ({' '.join(str(error).split())})") from error
        finally:
            loader.dispose()
        return value

    def _error(self, node: yaml.Node, key: str, problem: str) -> ModelFileError:
        return ModelFileError(f"{self.path}, line {node.start_mark.line + 1}: {self.prefix}{key} {problem}")


def _require_bounded_integers(value: object) -> None:
    """Raises ValueError for a number that neither converts to a float nor prints."""
    if isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
        raise ValueError("the number is too large")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        _require_bounded_integers(child)


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
