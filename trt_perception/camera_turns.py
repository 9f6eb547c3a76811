"""Whose frame is looked at next: the camera's that was served longest ago, or that has had less than the others."""

from __future__ import annotations

from collections.abc import Collection

# Frames. Below the first, a camera waits for its turn, which keeps inference evenly spread. The second bounds what a
# camera that was silent may catch up, and is above the first, or one that is as slow as its fair share loses frames.
_CREDIT_TO_GO_AHEAD = 2
_MOST_CREDIT = 3


class CameraTurns:
    """Keeps cameras from starving each other, whatever their rates. No clock, no frames: cameras are numbers.

    Among frames that wait, the camera that was served longest ago comes first. That alone does not help a camera whose
    frames always come just after another's, when each time inference has had its share and refuses them. So a refusal
    is a claim: the next frame that inference would have time for gives way once, if its camera was served later.

    Nor does a claim help a slow camera, since it cannot wait for a frame that is long in coming. So cameras have
    credit, as in deficit round robin (Shreedhar and Varghese 1995) with a frame as the quantum: one that is served
    without credit begins a round, in which every other gets one frame's, and one that is served with credit pays for it
    with one. A camera with enough of it goes ahead of what inference has time for, and the others' next frames wait
    that much longer. Only frames that go in their own time begin rounds, so nobody can go ahead for ever. A camera that
    is slower than its fair share thus gets all its frames, and the others get the rest in equal parts (max-min).
    """

    def __init__(self, count: int) -> None:
        """count: how many cameras there are."""
        self._served = [0] * count
        self._claims = [False] * count
        self._credit = [0] * count
        self._turn = 0

    def in_order(self, waiting: Collection[int]) -> list[int]:
        """The cameras that wait, the one whose turn it is first; those that were never served in the order given."""
        return sorted(waiting, key=self._served.__getitem__)

    def served(self, camera: int) -> None:
        """A frame of that camera is given to the detector."""
        self._turn += 1
        self._served[camera] = self._turn
        self._claims[camera] = False
        if self._credit[camera] > 0:
            self._credit[camera] -= 1
            return
        for other in range(len(self._credit)):
            if other != camera:
                self._credit[other] = min(self._credit[other] + 1, _MOST_CREDIT)

    def refused(self, camera: int) -> None:
        """A frame of that camera was good, and inference had no time for it."""
        self._claims[camera] = True

    def ahead(self, camera: int) -> int:
        """How many inferences too early a frame of that camera may run, because it had less than the others; 0: none.

        One for each other camera: all of them may be behind, and their frames may come together.
        """
        return len(self._credit) - 1 if self._credit[camera] >= _CREDIT_TO_GO_AHEAD else 0

    def gives_way(self, camera: int, together_with: Collection[int]) -> bool:
        """True when a frame of that camera is to be left out for one that has a claim, which is then used up.

        together_with: cameras whose frames are at hand too. A camera that has stopped costs the others one frame.
        """
        if self.ahead(camera):
            return False
        for other in self.in_order(range(len(self._served))):
            if self._served[other] >= self._served[camera]:
                return False
            if self._claims[other] and other not in together_with:
                self._claims[other] = False
                self._claims[camera] = True
                return True
        return False
