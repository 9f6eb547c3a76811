"""Whose frame is looked at next: the camera's that was served longest ago."""

from __future__ import annotations

from collections.abc import Collection


class CameraTurns:
    """Keeps cameras from starving each other, whatever their rates. No clock, no frames: cameras are numbers.

    Among frames that wait, the camera that was served longest ago comes first. That alone does not help a camera whose
    frames always come just after another's, when each time inference has had its share and refuses them. So a refusal
    is a claim: the next frame that inference would have time for gives way once, if its camera was served later.
    """

    def __init__(self, count: int) -> None:
        """count: how many cameras there are."""
        self._served = [0] * count
        self._claims = [False] * count
        self._turn = 0

    def in_order(self, waiting: Collection[int]) -> list[int]:
        """The cameras that wait, the one whose turn it is first; those that were never served in the order given."""
        return sorted(waiting, key=self._served.__getitem__)

    def served(self, camera: int) -> None:
        """A frame of that camera is given to the detector."""
        self._turn += 1
        self._served[camera] = self._turn
        self._claims[camera] = False

    def refused(self, camera: int) -> None:
        """A frame of that camera was good, and inference had no time for it."""
        self._claims[camera] = True

    def gives_way(self, camera: int, together_with: Collection[int]) -> bool:
        """True when a frame of that camera is to be left out for one that has a claim, which is then used up.

        together_with: cameras whose frames are at hand too. A camera that has stopped costs the others one frame.
        """
        for other in self.in_order(range(len(self._served))):
            if self._served[other] >= self._served[camera]:
                return False
            if self._claims[other] and other not in together_with:
                self._claims[other] = False
                self._claims[camera] = True
                return True
        return False
