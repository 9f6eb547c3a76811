"""A picture of the budget: the share of each control period over time, and how often each share occurs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trt_perception.control_budget.verdict import BudgetThresholds, Verdict
from trt_perception.errors import PerceptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_INCHES = (10.0, 6.0)
_DOTS_PER_INCH = 110
_COLORS = {Verdict.REAL_TIME: "#3b7d4f", Verdict.BORDERLINE: "#d99a00", Verdict.OVER_BUDGET: "#c0392b"}
_BINS_PERCENT = range(0, 101, 4)


class PictureError(PerceptionError):
    """The picture cannot be made: matplotlib is missing, nothing to show, or nowhere to write."""


def write_budget_picture(
    path: Path, shares: Sequence[tuple[int, float]], thresholds: BudgetThresholds, sentence: str
) -> None:
    """Writes a PNG of the busy share of each period in `shares` (start in ns, share 0-1, oldest first) to `path`.

    `sentence` becomes the title; folders that are missing are made. Raises PictureError when `shares` has
    fewer than two periods, matplotlib is not installed, or the file cannot be written.
    """
    if len(shares) < 2:
        raise PictureError(
            f"{len(shares)} control periods were seen; expected at least 2 to draw: follow the budget for longer"
        )
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PictureError(f"the picture needs matplotlib ({error}); install it: pip install matplotlib") from error
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(sentence)
    timeline, histogram = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    _draw_timeline(timeline, shares, thresholds)
    _draw_histogram(histogram, [share for _, share in shares], thresholds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as error:
        raise PictureError(f"cannot write {path}: {error}; give a path that can be written") from error


def delay_note() -> str | None:
    """A sentence where the first picture will take long: Matplotlib has not yet listed this user's fonts."""
    try:
        import matplotlib
    except ImportError:
        return None
    # matplotlib.font_manager: the list is kept in the cache folder, under a name with its own version number.
    if any(Path(matplotlib.get_cachedir()).glob("fontlist-v*.json")):
        return None
    return "drawing the budget: Matplotlib lists this machine's fonts first, once, which can take some seconds"


def _draw_timeline(axes: Axes, shares: Sequence[tuple[int, float]], thresholds: BudgetThresholds) -> None:
    period_ns = shares[1][0] - shares[0][0]
    end_ns = shares[-1][0] + period_ns
    edges_s = [(start_ns - end_ns) / 1e9 for start_ns, _ in shares] + [0.0]
    for verdict, color in _COLORS.items():
        percents = [100.0 * share if thresholds.level(share) is verdict else 0.0 for _, share in shares]
        axes.stairs(percents, edges_s, fill=True, color=color)
    _draw_thresholds(axes, thresholds)
    for percent, label in (
        (100.0 * thresholds.borderline_share, "borderline"),
        (100.0 * thresholds.over_share, "over"),
    ):
        axes.annotate(
            f"{label} from {percent:g} %",
            (edges_s[0], percent),
            (6, 5),
            textcoords="offset points",
            fontsize=8,
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )
    axes.set(
        xlabel="time before the newest period (s)",
        ylabel=f"inference share of each {period_ns / 1e6:.1f} ms control period (%)",
        xlim=(edges_s[0], 0.0),
        ylim=(0.0, 105.0),
    )
    axes.set_title("share over time", fontsize=10)


def _draw_histogram(axes: Axes, shares: Sequence[float], thresholds: BudgetThresholds) -> None:
    busy_percent = [100.0 * share for share in shares if share > 0.0]
    axes.hist(busy_percent, bins=list(_BINS_PERCENT), orientation="horizontal", color="#3b6ea5", log=True)
    _draw_thresholds(axes, thresholds)
    # On a linear axis the few periods that matter most vanish beside hundreds of harmless ones.
    axes.set(xlabel="periods (count, log scale)")
    axes.set_title(f"{len(busy_percent)} of {len(shares)} periods\nwith inference", fontsize=10)


def _draw_thresholds(axes: Axes, thresholds: BudgetThresholds) -> None:
    for share, verdict in (
        (thresholds.borderline_share, Verdict.BORDERLINE),
        (thresholds.over_share, Verdict.OVER_BUDGET),
    ):
        axes.axhline(100.0 * share, color=_COLORS[verdict], linestyle="--", linewidth=1.5)
    axes.grid(alpha=0.3)
