"""What a probe comes to: a level, one line, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Facts = Mapping[str, Any]
"""What a probe saw: names and plain values (JSON)."""


class Level(Enum):
    """ok: works; absent: not installed, which matters only to who wants it; warning: works with a limit; failed:
    installed or asked for, and broken.
    """

    OK = "ok"
    ABSENT = "absent"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What came back from a probe's process.

    facts: None when it delivered none. failure: how the process failed, None when it ended well; a library may abort
    after the facts were delivered. output_tail: the end of what the process and its libraries printed.
    """

    facts: Facts | None
    failure: str | None
    output_tail: str
    took_ms: float


@dataclass(frozen=True)
class Finding:
    """A probe's result. remedy: what to do, None where nothing is to be done; known_as: name of a known failure."""

    probe: str
    level: Level
    summary: str
    remedy: str | None = None
    known_as: str | None = None
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """What a probe's module makes of its facts."""

    level: Level
    summary: str
    remedy: str | None = None


def missing(facts: Facts, install: str) -> Judgement | None:
    """The judgement on a library whose import failed (facts `import_error`, `installed`), None when it worked.

    install: the command that installs it.
    """
    error = facts.get("import_error")
    if error is None:
        return None
    if not facts.get("installed", False):
        return Judgement(Level.ABSENT, "not installed", f"if you want it: {install}")
    return Judgement(Level.FAILED, f"installed, but cannot be imported: {error}", f"install it again: {install}")
