"""Parts of a page of plots: a table in a box of its own, and a figure with the names of its lines and its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from herdwatch.operations.report.axes import Axis
from herdwatch.operations.report.drawing import Plot
from herdwatch.operations.report.words import safe
from herdwatch.times import span

ROWS = 40
"""Rows of the table with a plot's values."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table's lines, whose first column names its rows; what is given is HTML already."""
    head = "".join(f'<th scope="col">{one}</th>' if one else "<td></td>" for one in heads)
    lines = [f"<tr>{head}</tr>"]
    for first, *others in rows:
        lines.append(f'<tr><th scope="row">{first}</th>{"".join(f"<td>{one}</td>" for one in others)}</tr>')
    return "\n".join(lines)


def box(label: str, rows: str, kind: str = "") -> str:
    """A table that scrolls inside its own box."""
    names = f"table {kind}".strip()
    return (
        f'<div class="{names}" role="group" aria-label="{safe(label)}" tabindex="0">\n'
        f"<table>\n{rows}\n</table>\n</div>\n"
    )


def figure(plot: Plot, picture: str, values: str) -> str:
    """A caption with the names of the lines, the picture, and the values for who asks for them."""
    keys = "".join(
        f'<span class="key"><svg viewBox="0 0 26 8" aria-hidden="true"><path class="line c{n}" d="M0 4H26"/></svg>'
        f"{safe(line.name)}</span>"
        for n, line in enumerate(plot.lines)
    )
    return (
        f"<figure>\n<figcaption><strong>{safe(plot.title)}</strong>{keys}</figcaption>\n{picture}\n"
        f"<details><summary>Values: {safe(plot.title.lower())}</summary>\n{values}</details>\n</figure>\n"
    )


def values(plot: Plot, axis: Axis, head: str, clock: Callable[[int], str], most: int = ROWS) -> str:
    """A plot's values in so many rows at most; `clock` writes the times of its first column, which is called `head`."""
    grid = axis.grid
    every = -(-len(grid) // most)
    heads = "".join(f'<th scope="col" class="number">{safe(line.name)}</th>' for line in plot.lines)
    rows = [f'<tr><th scope="col">{safe(head)}</th>{heads}</tr>']
    for place in range(0, len(grid), every):
        cells = "".join(f'<td class="number">{safe(plot.text(line.curve[place]))}</td>' for line in plot.lines)
        rows.append(f'<tr><td class="when">{safe(clock(grid[place]))}</td>{cells}</tr>')
    return box(f"{plot.title}, a value every {span(every * axis.step)}", "\n".join(rows), "values")
