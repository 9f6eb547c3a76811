"""Which candidates count, class by class: the thresholds with the names of classes looked up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trt_perception.errors import PerceptionError
from trt_perception.types import Float32Array, Int64Array, Thresholds


class ClassChoice:
    """Thresholds for one model's labels.

    lowest_score: no candidate at or below it can count. Raises PerceptionError for the name of a class that the
    model does not have. A class without a name goes by its number; a name that stands twice means both classes.
    """

    def __init__(self, thresholds: Thresholds, labels: Sequence[str]) -> None:
        self.thresholds = thresholds
        self._wanted = frozenset(_class_ids(thresholds.classes, labels))
        self._scores = {i: score for name, score in thresholds.per_class for i in _class_ids([name], labels)}
        # A filter may leave only classes with a threshold of their own: then the common one does not count.
        own = {i: self._scores.get(i, thresholds.score) for i in self._wanted}
        self.lowest_score = min(own.values()) if own else min([thresholds.score, *self._scores.values()])

    def kept(self, scores: Float32Array, class_ids: Int64Array) -> NDArray[np.bool_] | None:
        """bool (N,): which of the candidates count; None when all that a head gives do."""
        if not self._wanted and not self._scores:
            return None
        chosen = np.isin(class_ids, list(self._wanted)) if self._wanted else np.ones(class_ids.shape, bool)
        least = np.full(class_ids.shape, self.thresholds.score, np.float32)
        for class_id, score in self._scores.items():
            least[class_ids == class_id] = score
        result: NDArray[np.bool_] = chosen & (scores > least)
        return result

    @property
    def least_other(self) -> float:
        """The score that a candidate must exceed whose class the thresholds do not name; infinite: it never counts."""
        return np.inf if self._wanted else self.thresholds.score

    def least_scores(self, class_count: int) -> Float32Array:
        """float32 (class_count,): the score that a candidate of each class must exceed; infinite: it never counts."""
        least = np.full(class_count, self.least_other, np.float32)
        for class_id in self._wanted or self._scores:
            if class_id < class_count:
                least[class_id] = self._scores.get(class_id, self.thresholds.score)
        return least


def _class_ids(names: Iterable[str], labels: Sequence[str]) -> Iterable[int]:
    for name in names:
        found = [index for index, label in enumerate(labels) if label == name]
        if not found and name.isascii() and name.isdecimal() and int(name) >= len(labels):
            found = [int(name)]
        if not found:
            known = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "") if labels else "numbers only"
            raise PerceptionError(f"the model has no class {name!r}; its classes are {known}")
        yield from found
