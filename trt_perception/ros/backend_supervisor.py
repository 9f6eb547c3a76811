"""Keeps inference going: a fallback chain for backends that fail, a watchdog for one that hangs."""

from __future__ import annotations

from collections.abc import Sequence

from trt_perception.detector import WarmUp
from trt_perception.errors import ImageError
from trt_perception.fallback_chain import ChainHost, FallbackChain, FallbackPolicy
from trt_perception.inference_watchdog import InferenceWatchdog

# An inference that takes several times what the last frame of warm-up took is hung, whatever the time limit says:
# a limit shorter than that would end the process again and again.
_SLOWER_THAN_WARM_UP = 5


class BackendSupervisor:
    """The pipeline's observer between start() and stop()."""

    def __init__(self, host: ChainHost) -> None:
        self._host = host
        self._chain: FallbackChain | None = None
        self._watchdog: InferenceWatchdog | None = None

    def start(self, backends: Sequence[str], index: int, policy: FallbackPolicy) -> None:
        """Watches the backend at that place of the list; an earlier list is forgotten."""
        self.stop()
        self._chain = FallbackChain(backends, index, policy, self._host)
        self._chain.start()

    def stop(self) -> None:
        """Changes no backend from now on; waits for one that is being opened."""
        chain, self._chain = self._chain, None
        if chain is not None:
            chain.stop()

    def close(self) -> None:
        """Ends everything; a second call does nothing."""
        self.stop()
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.close()

    def limit(self, timeout_s: float, warm_up: WarmUp | None) -> None:
        """Sets how long an inference may take (0: as long as it likes); warm_up: of the detector that runs."""
        frame_s = warm_up.frame_ns[-1] / 1e9 if warm_up is not None and warm_up.frame_ns else 0.0
        if 0 < timeout_s < frame_s * _SLOWER_THAN_WARM_UP:
            said, timeout_s = timeout_s, frame_s * _SLOWER_THAN_WARM_UP
            self._host.report(
                f"inference_timeout_s is {said:g}, but a frame of warm-up took {frame_s:.1f} s; only an inference that "
                f"takes longer than {timeout_s:.1f} s counts as hung"
            )
        if self._watchdog is not None:
            self._watchdog.timeout_s = timeout_s
        elif timeout_s > 0:
            self._watchdog = InferenceWatchdog(timeout_s)

    def began(self) -> None:
        """As InferenceObserver."""
        if self._watchdog is not None:
            self._watchdog.began()

    def ended(self, error: Exception | None) -> None:
        """As InferenceObserver. A picture that is none says nothing about the backend."""
        if self._watchdog is not None:
            self._watchdog.ended()
        # Another thread may stop the chain at any moment.
        chain = self._chain
        if chain is not None and not isinstance(error, ImageError):
            chain.frame_ended(error)

    def retry(self) -> None:
        """Tries the better backends now; returns when that is done."""
        chain = self._chain
        if chain is not None:
            chain.retry()

    def values(self) -> dict[str, object]:
        """For /diagnostics."""
        chain, watchdog = self._chain, self._watchdog
        return {
            "backend_changes_count": chain.changes if chain else 0,
            "last_backend_change": (chain.last_change if chain else "") or "none",
            "inference_timeout_s": watchdog.timeout_s if watchdog else 0.0,
        }
