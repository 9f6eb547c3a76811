"""How many of a camera's messages the middleware lost on the way to this node."""

from __future__ import annotations

from dataclasses import dataclass, field

# rmw's RMW_MESSAGE_INFO_SEQUENCE_NUMBER_UNSUPPORTED: what a middleware that does not number its messages fills in.
_UNSUPPORTED = 2**64 - 1


@dataclass
class InputLink:
    """What became of one subscription's messages before they reached the node, since activation.

    A publisher numbers its messages; a gap in the numbers is what was lost. That finds more than the middleware's own
    message_lost event: a message that a newer one replaced in the reader's history of depth 1, before the node came to
    take it, is no loss to the middleware. The event counts where numbers say nothing: the middleware gives none, or
    several publishers share the topic, whose numbers are not told apart. The last messages of a publisher that
    stops leave no gap behind.

    lost: messages. incompatible_policy: the quality of service that keeps a publisher from being heard, None if none.
    """

    lost: int = 0
    incompatible_policy: str | None = None
    _newest: int | None = field(default=None, repr=False)

    def arrived(self, number: int | None, publishers: int) -> None:
        """Call it for every message. number: its publication_sequence_number; publishers: how many the topic has."""
        if number is None or number == _UNSUPPORTED or publishers > 1:
            self._newest = None
            return
        # A lower number is a publisher that was started again.
        if self._newest is not None and number > self._newest:
            self.lost += number - self._newest - 1
        self._newest = number

    def lost_event(self, count: int) -> None:
        """Call it when the middleware itself reports lost messages."""
        if self._newest is None:
            self.lost += count
