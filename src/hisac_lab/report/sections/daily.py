"""The part of the A/B section on a test of several days: the lift till each day, and what daily looks may say of it."""

from __future__ import annotations

from collections.abc import Sequence

from hisac_lab.abtest.records import ABTest, Day, Span
from hisac_lab.report.document import Cell, Figure, Figures, Note, Row, Table, table
from hisac_lab.report.drawing import INK, LIFTS, Sheet, draw, legend, ticks
from hisac_lab.report.words import between, integer, signed_percent

NEVER = "on no day"
Shown = Sequence[tuple[str, ABTest, str]]


def daily(shown: Shown, level: str) -> tuple[Note | Figures | Table, ...]:
    """Words, chart and table; nothing where the test has one day.

    Args:
        shown: Treatments with their tests and colors.
        level: Of the intervals, in words.
    """
    lasting = [(name, test.days, color) for name, test, color in shown if test.days]
    if not lasting:
        return ()
    days = len(lasting[0][1])
    words = (
        f"The same test over {days} days, a slate a day: what a policy shows is known to the world on the days after, "
        "and its clicks are in the histories that it reads. Intervals are over users; luck of trained seeds is not in "
        "them."
    )
    caption = (
        f"Lift till the last day with its {level} intervals. Once: for one look, then. Bound: for a look on each of "
        "these days. Sequence: for any number of looks. Called: the first day whose sequence leaves zero out."
    )
    rows: list[Row] = [
        (
            Cell(name, color=color),
            signed_percent(of[-1].lift),
            *(between((span.low, span.high), signed_percent) for span in (of[-1].once, of[-1].bound, of[-1].sequence)),
            signed_percent(of[0].today),
            signed_percent(of[-1].today),
            _called(of),
        )
        for name, of, color in lasting
    ]
    head = ("treatment", "lift", "once", "bound", "sequence", "first day alone", "last day alone", "called")
    return (
        Note(words),
        Figures((_chart(lasting, days),)),
        table(caption, head, rows, ("treatment", "called")),
    )


def _called(days: Sequence[Day]) -> str:
    """The first day on which a daily look ends the test."""
    return next((f"day {integer(day.day)}" for day in days if not _holds_zero(day.sequence)), NEVER)


def _holds_zero(span: Span) -> bool:
    return span.low <= 0 <= span.high


def _chart(lasting: Sequence[tuple[str, Sequence[Day], str]], days: int) -> Figure:
    """Lines of the lift till each day in bands of the confidence sequence."""

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        axes.axhline(0, color=INK, linewidth=0.9)
        for name, of, color in lasting:
            at = [day.day for day in of]
            lows, highs = [day.sequence.low for day in of], [day.sequence.high for day in of]
            axes.fill_between(at, lows, highs, color=color, alpha=0.14, linewidth=0)
            axes.plot(at, [day.lift for day in of], color=color, label=name, marker="o", markersize=4)
        axes.set_title("Lift in clicks till the day")
        axes.set_xlabel("Day of the test")
        axes.yaxis.set_major_formatter(LIFTS)
        ticks(axes.xaxis, axes.yaxis)
        legend(sheet)

    svg = draw("daily", f"Lift till each of {days} days with its confidence sequence", 300, paint)
    words = "A band that leaves the line for good may be acted on that day, however often one has looked."
    called = [f"`{name}` on {day}" for name, of, _ in lasting if (day := _called(of)) != NEVER]
    seen = f"Called: {', '.join(called)}." if called else f"Nothing may be called within {days} days."
    return Figure("lift_by_day", svg, "Lift by day", seen, words)
