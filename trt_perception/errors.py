"""Every error that trt_perception raises on purpose.

Each message says what came, what was expected and what to do next, in that order, so that a
person who reads only the log can act.
"""

from __future__ import annotations


class PerceptionError(Exception):
    """Base of every error raised on purpose; a caller that catches it catches no programming mistakes."""


class ModelFileError(PerceptionError):
    """A model file (YAML) or a bare artifact does not say what is needed, or says it wrongly."""


class ImageError(PerceptionError):
    """An image cannot be used: the message names the field that is wrong."""


class OutputError(PerceptionError):
    """A network's outputs do not have the shape, type or values that its head expects."""


class BackendError(PerceptionError):
    """A backend failed while it was opened, run or closed."""


class BackendUnavailableError(BackendError):
    """A backend cannot run here at all: its library, its device or its artifact is missing."""


class DeviceMismatchError(BackendUnavailableError):
    """The library would run on another device than the one asked for, and no fallback was allowed."""


class WriteError(PerceptionError):
    """A file cannot be written: the disk is full, or the folder is not for this user."""
