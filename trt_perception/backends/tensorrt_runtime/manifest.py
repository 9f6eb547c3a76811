"""The JSON file beside an engine: what it was built from, for what, and the hash that tells whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from trt_perception.backends.tensorrt_runtime.library import parse_version
from trt_perception.backends.tensorrt_runtime.versions import PROFILE_SHARING, dialect_for
from trt_perception.checksum import file_sha256
from trt_perception.errors import BackendError

MANIFEST_SUFFIX = ".json"
_FORMAT = 1
# Of a key's options: preview features of TensorRT that it was built with.
PREVIEW = "preview"

Shape: TypeAlias = "tuple[int, ...]"
# Of a profile: which end stands in for which where neither it nor the best was given.
_ENDS = (("smallest", "largest"), ("largest", "smallest"))


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on; two engines with equal keys are interchangeable.

    onnx_sha256: of the ONNX file given by the user and of the weights beside it. precision: fp32, fp16 or int8.
    shapes: input name → min, opt and max shape as `1x3x320x320,...`, empty where the network's shapes are fixed.
    options: everything else that changes the result, by trtexec's names.
    """

    onnx_sha256: str
    tensorrt_version: str
    gpu_name: str
    compute_capability: str
    precision: str
    shapes: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def brings_runtime(self) -> bool:
        """True for a version-compatible engine that has the lean runtime of its own version in it."""
        return self.options.get("versionCompatible") == "true" and self.options.get("excludeLeanRuntime") != "true"

    @property
    def shares_profile(self) -> bool:
        """True where it is known that several execution contexts may use the engine's profile at once."""
        try:
            sharing = dialect_for(parse_version(self.tensorrt_version)).profile_sharing
        except BackendError:
            return False
        return sharing == "always" or (sharing == "asked" and self.options.get(PREVIEW) == PROFILE_SHARING)

    def refuses(self, picture: Shape) -> str | None:
        """Why pictures of that shape (batch, channels, height, width) cannot be given, None where they can.

        As far as the key tells: fixed sizes stand in the ONNX. The batch may be larger, pictures fill a part of it.
        """
        for text in self.shapes.values():
            try:
                given = parse_profile(text)
            except ValueError as error:
                return f"its manifest has shapes that no build writes ({error})"
            least, most = (given.get(first) or given.get("best") or given.get(second) for first, second in _ENDS)
            if least is None or most is None or not len(least) == len(most) == len(picture):
                continue
            inside = [low <= n <= high for low, n, high in zip(least, picture, most, strict=True)]
            if not all(inside[1:]) or most[0] < picture[0]:
                return f"it takes {text}, the model's pictures are {'x'.join(map(str, picture))}"
        return None

    def to_build_again(self, precision: str, picture: Shape | None) -> EngineKey | None:
        """What an engine of this key, which does not fit any more, is to be built with again.

        None where another precision is wanted; without shapes where pictures have others.
        """
        if self.precision != precision:
            return None
        return replace(self, shapes={}) if picture is not None and self.refuses(picture) else self

    def differences(self, wanted: EngineKey) -> list[str]:
        """One line for each part in which this engine is not the wanted one; empty when it is."""
        lines: list[str] = []
        for entry in fields(self):
            has, wants = getattr(self, entry.name), getattr(wanted, entry.name)
            if isinstance(has, Mapping):
                lines += [
                    f"{entry.name}.{key}: built with {has.get(key, 'none')}, wanted {wants.get(key, 'none')}"
                    for key in sorted({*has, *wants})
                    if has.get(key) != wants.get(key)
                ]
            elif has != wants:
                lines.append(f"{entry.name}: built with {has}, wanted {wants}")
        return lines


def parse_profile(text: str) -> dict[str, Shape]:
    """What stands in a key's shapes, `1x3x8x8/-/4x3x8x8`, as `smallest`, `best` and `largest`; those given alone.

    Raises ValueError for another text.
    """
    parts = dict(zip(("smallest", "best", "largest"), text.split("/"), strict=True))
    return {name: tuple(int(n) for n in part.split("x")) for name, part in parts.items() if part != "-"}


@dataclass(frozen=True)
class EngineManifest:
    """A built engine. engine_sha256, engine_bytes: of the engine file; onnx: path of its source as it was given;
    metadata: what the ONNX says of itself; built_at: UTC, ISO 8601; build_s: seconds; notes: what had to be done
    otherwise than asked.
    """

    key: EngineKey
    engine_sha256: str
    engine_bytes: int
    onnx: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    built_at: str = ""
    build_s: float = 0.0
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Readable, with a format number in front."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=2) + "\n"

    def problem(self, engine: Path) -> str | None:
        """Why that file is not the engine that was built, None when it is."""
        try:
            size = engine.stat().st_size
            if size != self.engine_bytes:
                kind = "truncated" if size < self.engine_bytes else "longer than built"
                return f"{engine} is {kind}: {size} bytes, built with {self.engine_bytes}"
            found = file_sha256(engine)
        except OSError as error:
            return f"{engine} cannot be read ({error.strerror})"
        if found != self.engine_sha256:
            return f"{engine} was changed after it was built: sha256 {found}, built with {self.engine_sha256}"
        return None


def manifest_path(engine: Path) -> Path:
    """`model.engine` → `model.engine.json`."""
    return engine.with_name(engine.name + MANIFEST_SUFFIX)


def read_manifest(engine: Path) -> EngineManifest | None:
    """The manifest beside an engine, None where there is none; raises BackendError for an unreadable one."""
    path = manifest_path(engine)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BackendError(f"{path} cannot be read ({error}); delete it and build the engine again") from error
    try:
        return _parse(json.loads(text))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise BackendError(
            f"{path} is no engine manifest ({type(error).__name__}: {error}); delete it and build the engine again"
        ) from error


def _parse(values: Any) -> EngineManifest:
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise ValueError(f"expected an object with format {_FORMAT}")
    key = values["key"]
    texts = {name: _text(key[name]) for name in _TEXT_KEYS}
    return EngineManifest(
        key=EngineKey(**texts, shapes=_text_map(key["shapes"]), options=_text_map(key["options"])),
        engine_sha256=_text(values["engine_sha256"]),
        engine_bytes=int(values["engine_bytes"]),
        onnx=_text(values["onnx"]),
        metadata=_text_map(values["metadata"]),
        built_at=_text(values["built_at"]),
        build_s=float(values["build_s"]),
        notes=tuple(_text(note) for note in values["notes"]),
    )


_TEXT_KEYS = ("onnx_sha256", "tensorrt_version", "gpu_name", "compute_capability", "precision")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _text_map(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {value!r}")
    return {_text(key): _text(entry) for key, entry in value.items()}
