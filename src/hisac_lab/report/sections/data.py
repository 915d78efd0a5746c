"""The section on the data: profile of the log, the split, and what keeps the future out of the past."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from hisac_lab.events.records import Leaks, Month, Prepared, Split
from hisac_lab.report.document import Counts, Figure, Figures, Points, Section, Table, table
from hisac_lab.report.drawing import ACCENT, SHARES, THOUSANDS, Sheet, draw, note, ticks
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import day, integer, moment, percent

MOST_MONTHS = 48


def data(facts: Facts) -> Section:
    """Profile of the log, the split, and what keeps the future out of the past."""
    prepared = facts.prepared
    counts: tuple[tuple[str, int], ...] = (
        ("users", prepared.users),
        ("items", prepared.items),
        ("events", prepared.events),
        ("events in histories", prepared.history_events),
        ("events out of time order, sorted", prepared.events_out_of_order),
        ("events outside the bounds, left out", prepared.events_outside),
        ("repeated events, left out", prepared.events_repeated),
        ("samples left out for lack of history", prepared.samples_without_history),
        ("samples not drawn by prepare.keep", prepared.samples_not_kept),
    )
    counts += tuple((f"rows left out: {reason}", count) for reason, count in prepared.left_out.items())
    if prepared.positives_on_new_items is not None:
        counts += (("positives on items that nobody had touched before", prepared.positives_on_new_items),)
    profile = prepared.profile
    deciles = profile.history_length_deciles
    span, periods = _by_period(facts)
    months = table(
        f"Events by {span} (UTC).",
        (span, "events", "positives"),
        [
            (name, integer(month.events), "–" if month.positive_share is None else percent(month.positive_share, 2))
            for name, month in periods
        ],
        (span,),
    )
    lengths = table(
        "Quantiles of the length of a user's whole history.",
        ("share of users", "events at most"),
        [(f"{100 * at // (len(deciles) - 1)} %", integer(length)) for at, length in enumerate(deciles)],
        (),
    )
    return Section(
        "data",
        "Data",
        (
            Counts(tuple((name, integer(count)) for name, count in counts)),
            _periods(prepared),
            Figures(
                (
                    _events(facts),
                    _lengths(facts),
                ),
                (months, lengths),
            ),
            _news(prepared),
        ),
    )


def _periods(prepared: Prepared) -> Table:
    columns = (
        "period",
        "first day (UTC)",
        "last day (UTC)",
        "samples",
        "requests",
        "users",
        "positives",
        "history p10",
        "p50",
        "p90",
        "p99",
    )
    caption = (
        "The periods. Histories are those of the samples, in events, cut at "
        f"{integer(prepared.history_limit)}; p10 to p99 are quantiles."
    )
    rows = [_period(name, prepared.splits[name]) for name in ("train", "valid", "test")]
    return table(caption, columns, rows, columns[:3])


def _news(prepared: Prepared) -> Points:
    profile = prepared.profile
    return Points(
        (
            (
                "New in the test period",
                f"{percent(profile.test_share_of_new_users)} of the test samples are from users, and "
                f"{percent(profile.test_share_of_new_items)} show items, that no training sample has.",
            ),
            (
                "Age of items",
                "Half of the test samples show an item first seen "
                f"{integer(profile.item_age_days['p50'])} days before or less, a tenth "
                f"{integer(profile.item_age_days['p10'])} days or less.",
            ),
            (
                "Long histories",
                f"One user in a hundred has more than {integer(profile.history_length_p99)} events in history.",
            ),
            ("Leak checks", _leak_check(prepared.leaks)),
            ("History", _history_rule(prepared.time_unit)),
            ("Split", _split_rule(prepared.splits)),
        )
    )


def _period(name: str, split: Split) -> tuple[str, ...]:
    quantiles = (split.history_p10, split.history_p50, split.history_p90, split.history_p99)
    return (
        name,
        day(split.first),
        day(split.last),
        integer(split.samples),
        integer(split.requests),
        integer(split.users),
        percent(split.positive_share),
        *(integer(value) for value in quantiles),
    )


def _leak_check(leaks: Leaks) -> str:
    return (
        f"The histories of all {integer(leaks.samples_checked)} samples were compared with the store: "
        f"{integer(leaks.history_of_another_user)} hold another user's events, "
        f"{integer(leaks.history_after_the_request)} reach into their request, "
        f"{integer(leaks.history_left_out)} end before they should."
    )


def _history_rule(unit: str) -> str:
    return (
        f"A history ends strictly before its request's {unit} (`prepare.time_unit`): events of the same {unit} never "
        "see each other."
    )


def _split_rule(splits: dict[str, Split]) -> str:
    train, valid, test = (splits[name] for name in ("train", "valid", "test"))
    holds = train.last < valid.first and valid.last < test.first
    return (
        f"Global in time: training ends {moment(train.last)}, validation runs from {moment(valid.first)} to "
        f"{moment(valid.last)}, the test begins {moment(test.first)}. "
        + ("No two periods overlap." if holds else "WARNING: two periods overlap; numbers below are not to be trusted.")
    )


def _by_period(facts: Facts) -> tuple[str, list[tuple[str, Month]]]:
    """Events by month, or by year where the log is longer than some years: what a row is, and the rows in order."""
    months = sorted(facts.prepared.profile.months.items())
    if len(months) <= MOST_MONTHS:
        return "month", months
    years: list[tuple[str, Month]] = []
    for year, group in groupby(months, key=lambda entry: entry[0][:4]):
        rows = [month for _, month in group]
        events = sum(month.events for month in rows)
        shares = [month.positive_share for month in rows if month.positive_share is not None]
        positives = sum(month.events * (month.positive_share or 0) for month in rows)
        years.append((year, Month(events=events, positive_share=positives / events if shares else None)))
    return "year", years


def _events(facts: Facts) -> Figure:
    """Events and, where there is feedback, share of positives by month or year."""
    span, rows = _by_period(facts)
    shares = [np.nan if month.positive_share is None else month.positive_share for _, month in rows]
    panels = 1 if np.isnan(shares).all() else 2
    name, most = max(rows, key=lambda row: row[1].events)
    counts = np.sort([month.events for _, month in rows])[::-1].cumsum()
    half = int(np.searchsorted(counts, counts[-1] / 2)) + 1

    def paint(sheet: Sheet) -> None:
        place = np.arange(len(rows))
        step = -(-len(rows) // 6)
        axes = sheet.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[2, 1][:panels])[:, 0]
        axes[0].bar(place, [month.events for _, month in rows], width=0.72, color=ACCENT)
        axes[0].set_title("Events")
        axes[0].yaxis.set_major_formatter(THOUSANDS)
        ticks(axes[0].yaxis)
        if panels == 2:
            axes[1].plot(place, shares, "o-", color=ACCENT, markersize=4)
            axes[1].set_title("Share of positives")
            axes[1].set_ylim(0, 1)
            axes[1].set_yticks([0, 0.5, 1])
            axes[1].yaxis.set_major_formatter(SHARES)
        axes[-1].set_xticks(place[::step], [name for name, _ in rows][::step])

    svg = draw("months", "Events and share of positives by month", 280, paint)
    return Figure(
        f"events_by_{span}",
        svg,
        f"Events by {span}",
        f"Most events, {integer(most.events)}, are of {name}; half of all lie in {integer(half)} of {len(rows)} "
        f"{span}s.",
        "Bars count events; the line is the share of them that are positive.",
    )


def _lengths(facts: Facts) -> Figure:
    """Quantiles of history length over users."""
    lengths = facts.prepared.profile.history_length_deciles

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        shares = np.linspace(0, 1, len(lengths))
        axes.plot(shares, lengths, "o-", color=ACCENT, markersize=5)
        for at in (len(lengths) // 2, len(lengths) - 2):
            note(axes, f"{lengths[at]:,}", float(shares[at]), lengths[at], above=7, side="right")
        axes.set_title("Events in the whole history")
        axes.set_xlabel("Share of users with at most so many")
        axes.xaxis.set_major_formatter(SHARES)
        axes.yaxis.set_major_formatter(THOUSANDS)
        ticks(axes.yaxis)
        axes.set_ylim(bottom=0)

    svg = draw("deciles", "History length by share of users", 280, paint)
    return Figure(
        "history_length",
        svg,
        "History length",
        f"Half of the users have at most {integer(lengths[len(lengths) // 2])} events, a tenth more than "
        f"{integer(lengths[-2])}; the longest history has {integer(lengths[-1])}.",
        "Read upwards from a share of users: that share has at most so many events in history.",
    )
