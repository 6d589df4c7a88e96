"""The plots of docs/performance.md, as SVG files: ratios to rivals, and growth with the size of the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.page import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATIOS, GROWTH = "performance_ratios.svg", "performance_growth.svg"
STYLE: Any = {  # matplotlib types its names one by one
    "font.size": 8, "svg.hashsalt": "cairn", "axes.spines.top": False, "axes.spines.right": False,
    "savefig.bbox": "tight", "svg.fonttype": "none", "figure.dpi": 72, "font.family": "sans-serif",
}  # fmt: skip
UNTOLD = {"Date": None, "Creator": None}  # so that the same figures give the same bytes
SECONDS, MEGABYTES = 0, 1  # of what a stage took


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

    figure, rows = pyplot.subplots(2, len(series), figsize=(3.2 * len(series), 5), squeeze=False)
    names = sorted({stage for one in series.values() for stage in one["stages"][0]})
    palette = pyplot.get_cmap("tab20")
    colours = {name: palette(at) for at, name in enumerate(names)}
    for column, (title, one) in enumerate(series.items()):
        for at in (SECONDS, MEGABYTES):
            _draw_lines(rows[at][column], one, at, colours)
        rows[SECONDS][column].set_title(title)
        rows[MEGABYTES][column].set_xlabel("times as many" if max(one["sizes"]) > 1 else "part of GLDv2")
    rows[SECONDS][0].set_ylabel("processor time, s")
    rows[MEGABYTES][0].set_ylabel("memory at the peak, MB")
    lines = [pyplot.Line2D([], [], color=colour, marker=".", label=name) for name, colour in colours.items()]
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.legend(handles=lines, loc="lower center", ncols=4, fontsize=7, frameon=False)
    figure.savefig(path, metadata=UNTOLD)
    pyplot.close(figure)


def _draw_lines(axes: Axes, one: dict[str, Any], at: int, colours: dict[str, Any]) -> None:
    """A line a stage over the sizes, on logarithmic axes; dashed, for seconds: what grows as the size does."""
    sizes, most = one["sizes"], max(measured[at] for measured in one["stages"][-1].values())
    for stage in one["stages"][0]:
        values = [measured[stage][at] for measured in one["stages"]]
        axes.plot(sizes, values, marker=".", color=colours[stage], linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:.2g}" for size in sizes])
    axes.minorticks_off()
    if at == SECONDS:
        axes.set_yscale("log")
        axes.plot(sizes, [most * size / sizes[-1] for size in sizes], color="grey", linestyle="--", linewidth=0.8)
        axes.set_ylim(bottom=min(measured[stage][at] for measured in one["stages"] for stage in measured) / 1.5)
        for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            set_formatter(lambda value, _: f"{value:g}")
