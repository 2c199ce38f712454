"""PURE. Columns -> lines that fit a width: the least important columns go first, then the one that may shrink does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP = 2
CUT = ".."


class Column(NamedTuple):
    """A title and the cells below it. `rank` 0 always stays, the highest goes first; one with `least` may shrink to that width."""

    title: str
    cells: Sequence[str]
    rank: int = 0
    right: bool = False
    least: int = 0

    @property
    def width(self) -> int:
        """Return the width that shows every cell whole."""
        return max(len(self.title), max(map(len, self.cells), default=0))


def lines(columns: Sequence[Column], width: int | None, indent: int = 0) -> list[str]:
    """Return the title's line and one for each row, none longer than `width` where the columns that stay allow it (None: any)."""
    chosen = list(columns)
    room = None if width is None else width - indent
    while room is not None and _least(chosen) > room and (rank := max(column.rank for column in chosen)) > 0:
        chosen.remove(next(column for column in reversed(chosen) if column.rank == rank))
    widths = _widths(chosen, room)
    drawn = [_cells(column, width) for column, width in zip(chosen, widths, strict=True)]
    between, before = " " * GAP, " " * indent
    return [before + between.join(row).rstrip() for row in zip(*drawn, strict=True)]


def cut(text: str, width: int) -> str:
    """Return a text of at most `width` characters; one that was cut says so."""
    return text if len(text) <= width else text[: max(width - len(CUT), 0)] + CUT[:width]


def _least(columns: Sequence[Column]) -> int:
    return sum(min(column.width, column.least) if column.least else column.width for column in columns) + GAP * (len(columns) - 1)


def _widths(columns: Sequence[Column], room: int | None) -> list[int]:
    widths = [column.width for column in columns]
    over = sum(widths) + GAP * (len(widths) - 1) - room if room is not None else 0
    # The widest that may shrink gives way first, a character at a time.
    while over > 0:
        able = [place for place, column in enumerate(columns) if column.least and widths[place] > column.least]
        if not able:
            break
        widest = max(able, key=lambda place: widths[place] - columns[place].least)
        widths[widest] -= 1
        over -= 1
    return widths


def _cells(column: Column, width: int) -> list[str]:
    """Return a column's title and cells, each as wide as the column."""
    place = str.rjust if column.right else str.ljust
    return [
        place(cell if len(cell) <= width and cell.isprintable() else cut(_printable(cell), width), width)
        for cell in (column.title, *column.cells)
    ]


def _printable(cell: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in cell)
