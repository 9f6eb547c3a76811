"""Keeps libraries from reporting to their makers how they are used."""

from __future__ import annotations

import os


def decline_telemetry() -> None:
    """To be called before ONNX Runtime is imported; a variable that the user has set stays as it is.

    ONNX Runtime 1.29 and newer sends events over the network and keeps a database below ~/.cache, unless this variable
    is set when it is loaded (its docs/Privacy.md); its disable_telemetry_events() comes too late for both.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
