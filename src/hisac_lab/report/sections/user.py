"""The section on one user: the newest events, what they vote for, which agents come of it and what is pruned."""

from __future__ import annotations

import textwrap

from hisac_lab.report.document import Cell, Figure, Figures, Note, Section, Table, table
from hisac_lab.report.drawing import ACCENT, FAINT, GRAY, INK, MUTED, Sheet, draw, ticks
from hisac_lab.report.facts import Event, Facts, UserPortrait
from hisac_lab.report.words import integer, percent

MOST_AGENTS = 20


def user(facts: Facts) -> Section:
    """The longest history: its events, its votes, its agents."""
    portrait = facts.portrait
    said = (
        f"User {portrait.user} has the longest history: {integer(portrait.behaviors)} behaviors, "
        f"{integer(portrait.voting)} of them vote; its agents hold "
        f"{percent(portrait.covered)} of the votes. A candidate reads the agents, not the events; `hisac-lab agents "
        "show` "
        "says the same of any user."
    )
    return Section("user", "One user", (Note(said), Figures((_agents(facts),), (_votes(facts),)), _events(portrait)))


def _events(portrait: UserPortrait) -> Table:
    return table(
        f"The newest {len(portrait.events)} events that vote, and what their vote went to.",
        ("day", "item", "semantic ID", "its vote"),
        [(event.day, event.title, event.path, _vote(event)) for event in portrait.events],
        ("day", "item", "semantic ID", "its vote"),
    )


def _vote(event: Event) -> Cell:
    badges = {"agent": "good", "pruned": "mid"}
    return Cell(event.vote, badge=badges.get(event.vote, "plain"))


def _votes(facts: Facts) -> Table:
    portrait = facts.portrait
    return table(
        f"Agents of user {portrait.user}, and the largest of the nodes that were pruned.",
        ("path", "level", "votes", "kept", "what it is"),
        [
            (bar.path, str(bar.level), integer(bar.votes), "agent" if bar.kept else "pruned", bar.name)
            for bar in (*portrait.agents, *portrait.cut)
        ],
        ("path", "kept", "what it is"),
    )


def _agents(facts: Facts) -> Figure:
    """One user's agents as bars, most votes first, and the largest of what was pruned."""
    portrait = facts.portrait
    bars = [*portrait.agents[:MOST_AGENTS], *portrait.cut]
    leaf = max((bar.level for bar in portrait.agents), default=0)
    routed = any(sweep.best.settings.get("pruned") == "routed" for sweep in facts.sweeps)
    kept = " A pruned behavior is not lost: it is routed to the agents that it is near to." if routed else ""

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        places = range(len(bars))
        colors = [ACCENT if bar.kept else FAINT for bar in bars]
        axes.barh(places, [bar.votes for bar in bars], height=0.72, color=colors)
        most = max((bar.votes for bar in bars), default=1)
        for place, bar in enumerate(bars):
            label = textwrap.shorten(bar.name, 36, placeholder="…") or "–"
            label += f" (branch, level {bar.level})" if not bar.kept and bar.level < leaf else ""
            axes.text(
                bar.votes + most * 0.015, place, label, va="center", fontsize=9.5, color=INK if bar.kept else MUTED
            )
        if portrait.cut and portrait.agents:
            axes.axhline(min(len(portrait.agents), MOST_AGENTS) - 0.5, color=GRAY, linewidth=0.8, linestyle=":")
        axes.set_yticks(list(places), [bar.path for bar in bars], fontsize=9.5)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0, most * 1.9)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")
        axes.set_xlabel("Votes")
        ticks(axes.xaxis)

    svg = draw("agents", "Votes of one user's agents and of what was pruned", 60 + 17 * len(bars), paint)
    return Figure(
        "agents",
        svg,
        f"Agents of user {portrait.user}",
        _elected(portrait),
        "The longest history. Dark: interest-agents, most votes first. Light: the largest of what the budgets cut; a "
        f"shorter path is a whole branch.{kept}",
    )


def _elected(portrait: UserPortrait) -> str:
    """Kept and pruned votes, and why a pruned bar can be the longer one."""
    kept, cut = (
        sum(votes) for votes in ([bar.votes for bar in portrait.agents], [part[1] for part in portrait.cut_by_level])
    )
    agents = f"{len(portrait.agents)} agent{'s' * (len(portrait.agents) != 1)}"
    said = f"Of {integer(kept + cut)} votes {integer(kept)} are with {agents}, {integer(cut)} are pruned."
    longest = max((bar.votes for bar in portrait.agents), default=0)
    higher = [
        bar for bar in portrait.cut if bar.votes > longest and bar.level < max(one.level for one in portrait.agents)
    ]
    if longest and higher:
        said += (
            f" Pruned bars are longer because each is a branch at level {higher[0].level}, cut off as one, while an "
            "agent "
            f"is a single leaf at level {portrait.agents[0].level} below a branch that was kept."
        )
    return said
