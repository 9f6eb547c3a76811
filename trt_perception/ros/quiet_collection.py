"""Python's garbage collector runs between frames, not in them."""

from __future__ import annotations

import gc
import time

# Often enough that a collection stays short, seldom enough that it costs next to nothing.
_PERIOD_NS = 1_000_000_000
# Where no moment is quiet, so much garbage is collected in the middle of a frame: memory stays bounded. Python's own
# figure is 700 (2000 from 3.13 on), which a node reaches every few frames.
_MOST_OBJECTS = 50_000


class QuietCollector:
    """Between start() and stop() the whole process's collector waits for rest().

    What is alive at start() (modules, the model, message types: some 100 000 objects) is not looked at again until
    stop(), which is why a collection takes a fraction of a millisecond instead of tens of them.
    """

    def __init__(self) -> None:
        self._thresholds: tuple[int, int, int] | None = None
        self._collected_ns = 0

    def start(self) -> None:
        """Call it when everything is loaded; a second call looks at what is alive anew."""
        if self._thresholds is None:
            self._thresholds = gc.get_threshold()
        else:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        gc.set_threshold(_MOST_OBJECTS, *self._thresholds[1:])
        self._collected_ns = time.monotonic_ns()

    def rest(self) -> None:
        """Call it when no frame waits; collects once a second."""
        now_ns = time.monotonic_ns()
        if self._thresholds is not None and now_ns - self._collected_ns >= _PERIOD_NS:
            gc.collect()
            self._collected_ns = now_ns

    def stop(self) -> None:
        """Python's own way again; a second call does nothing."""
        if self._thresholds is not None:
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()
            self._thresholds = None
