"""The report: one HTML file with everything in it, to open, to send and to keep."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --good: #2a9d4a; --bad: #d1495b; --new: #e8a33d; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.4rem; }
p { max-width: 48rem; } .soft, small, figcaption { color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; white-space: normal; vertical-align: bottom; }
section { display: flex; gap: 1.4rem; padding: 1.2rem 0; border-top: 1px solid var(--line); }
section > div { min-width: 0; overflow-x: auto; scrollbar-width: none; }
figure { margin: 0; flex: 0 0 15rem; } figure img { max-width: 100%; border-radius: 4px; }
figcaption { font-size: .8rem; }
.strip { display: flex; align-items: center; gap: 5px; margin-bottom: 6px; }
.strip b { flex: 0 0 4.2rem; font-weight: 600; font-size: .85rem; } .strip small { display: block; font-weight: 400; }
.strip span { position: relative; flex: none; border: 3px solid var(--bad); border-radius: 4px; line-height: 0; }
.strip span.good { border-color: var(--good); } .strip img { height: 74px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1.2rem; }
.pairs img { width: 100%; border-radius: 4px; }
.new::after { content: "new"; position: absolute; left: 3px; top: 3px; background: var(--new); color: #222;
  font: 600 10px/1.5 system-ui; padding: 0 4px; border-radius: 3px; }
"""


def render_page(title: str, parts: Sequence[str]) -> str:
    """A whole HTML page of finished parts, with its style inside."""
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{escape(title)}</title>"
    return (
        f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def render_heading(title: str, below: str) -> str:
    """The page's title and a line below it."""
    return f"<h1>{escape(title)}</h1><p class=soft>{escape(below)}</p>"


def render_section(heading: str, text: str, body: str) -> str:
    """A heading, a paragraph that explains, and finished HTML."""
    return f"<h2>{escape(heading)}</h2><p>{escape(text)}</p>{body}"


def render_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; the first column is text, the others are numbers."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table as text for a console, columns aligned."""
    widths = [max(len(row[at]) for row in [columns, *rows]) for at in range(len(columns))]
    lines = []
    for row in [columns, ["-" * width for width in widths], *rows]:
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
