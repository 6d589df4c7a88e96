"""The plots of docs/performance.md, as SVG files: ratios to rivals, and growth with the size of the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.page import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATIOS, GROWTH = "performance_ratios.svg", "performance_growth.svg"
STYLE = {
    "font.size": 8, "svg.hashsalt": "cairn", "axes.spines.top": False, "axes.spines.right": False,
    "savefig.bbox": "tight", "svg.fonttype": "none", "figure.dpi": 72, "font.family": "sans-serif",
}  # fmt: skip
UNTOLD = {"Date": None, "Creator": None}  # so that the same figures give the same bytes
PER_PHOTOGRAPH, PER_VECTOR = "worlds", "vectors"


def draw_plots(records: Records, folder: Path) -> None:
    """Write the plots for which there are figures."""
    import matplotlib

    matplotlib.use("svg")
    with matplotlib.rc_context(STYLE):
        ratios = dict(list_ratios(records))
        if ratios:
            _draw_ratios(ratios, folder / RATIOS)
        series = {title: one for record in records.values() for title, one in record.get("series", {}).items()}
        if series:
            _draw_growth(series, folder / GROWTH)


def list_ratios(records: Records) -> Iterator[tuple[str, float]]:
    """How many times as fast ours is as each rival, by name."""
    for name, record in records.items():
        for rival, ratio in record.get("ratios", {}).items():
            yield f"{rival} ({name.partition('-')[2]})" if "-" in name else rival, ratio


def _draw_ratios(ratios: dict[str, float], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 0.25 * len(ratios) + 0.8))
    ordered = sorted(ratios.items(), key=lambda item: item[1])
    bars = axes.barh([name for name, _ in ordered], [ratio for _, ratio in ordered], color="#4477aa", height=0.6)
    axes.bar_label(bars, [f" {ratio:.3g}" for _, ratio in ordered])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("time of the rival / time of ours, in one process")
    figure.savefig(path, metadata=UNTOLD)
    pyplot.close(figure)


def _draw_growth(series: dict[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(2, len(series), figsize=(3.6 * len(series), 5.5), squeeze=False)
    for column, (title, one) in enumerate(series.items()):
        for at, name in enumerate(("processor time, s", "memory at the peak, MB")):
            _draw_lines(rows[at][column], one, at)
            rows[at][column].set_ylabel(name)
        rows[0][column].set_title(title)
        rows[1][column].set_xlabel("times as many photographs" if title == PER_PHOTOGRAPH else "part of GLDv2")
        rows[0][column].legend(fontsize=6, frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata=UNTOLD)
    pyplot.close(figure)


def _draw_lines(axes: Axes, one: dict[str, Any], at: int) -> None:
    """A line a stage over the sizes, on logarithmic axes; dashed: what grows as the size does."""
    sizes = one["sizes"]
    for stage in one["stages"][0]:
        axes.plot(sizes, [measured[stage][at] for measured in one["stages"]], marker=".", label=stage, linewidth=1)
    low = min(measured[stage][at] for measured in one["stages"] for stage in measured)
    axes.plot(sizes, [low * size / sizes[0] for size in sizes], color="grey", linestyle="--", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
