"""The section on one user: the newest events, what they vote for, which agents come of it, what candidates read."""

from __future__ import annotations

import textwrap

from hisac_lab.report.document import Block, Cell, Figure, Figures, Note, Row, Section, Table, table
from hisac_lab.report.drawing import ACCENT, FAINT, GRAY, INK, MUTED, SHARES, Sheet, draw, hover, ticks
from hisac_lab.report.facts import Asked, Event, Facts, UserPortrait
from hisac_lab.report.words import fixed, integer, percent

MOST_AGENTS = 20


def user(facts: Facts) -> Section:
    """The longest history: its events, its votes, its agents, and what candidates read of them."""
    portrait = facts.portrait
    said = (
        f"Of those in the test period, user {portrait.user} comes with the longest history: "
        f"{integer(portrait.behaviors)} behaviors before the first request there, on {portrait.day}. "
        f"{integer(portrait.voting)} of them vote; the agents hold {percent(portrait.covered)} of the votes. A "
        "candidate reads the agents, not the events. `hisac-lab agents show` says the same of any user."
    )
    read = [block for name, asked in portrait.asked.items() for block in _read(name, asked)]
    blocks = (Note(said), Figures((_agents(facts),), (_votes(facts),)), _events(portrait), *read)
    return Section("user", "One user", blocks)


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
        axes.barh(places, [bar.votes for bar in bars], height=0.72, color=colors, edgecolor=GRAY, linewidth=0.6)
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
        "Above the dotted line interest-agents, most votes first; below it the largest of what the budgets cut. A "
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


def _read(name: str, asked: tuple[Asked, ...]) -> list[Block]:
    """What one model read for each candidate: of its agents, of the votes of the candidate's own nodes."""
    blocks = list[Block]()
    if any(one.agents for one in asked):
        blocks.append(Figures((_weights(name, asked),), (_weighed(name, asked),)))
    if any(one.votes for one in asked):
        blocks.append(_counted(name, asked))
    return blocks


def _answer(one: Asked) -> tuple[Cell, Cell]:
    return Cell("positive" if one.positive else "negative", badge="good" if one.positive else "plain"), Cell(
        fixed(one.probability, 2)
    )


def _weighed(name: str, asked: tuple[Asked, ...]) -> Table:
    return table(
        f"What candidates read of the agents, by `{name}`: those with most weight.",
        ("candidate", "answer", "score", "agents and their weights"),
        [
            (one.title, *_answer(one), "; ".join(f"{each.name} {percent(each.weight, 0)}" for each in one.agents))
            for one in asked
        ],
        ("candidate", "answer", "agents and their weights"),
    )


def _counted(name: str, asked: tuple[Asked, ...]) -> Table:
    """Votes of the candidates' own nodes."""
    partitions = list(dict.fromkeys(part for one in asked for part in one.votes))
    found = [one for one in asked if one.votes]
    rows: list[Row] = [(one.title, *_answer(one), *(_at(one.votes.get(part)) for part in partitions)) for one in asked]
    return table(
        f"What candidates read of the votes, by `{name}`: the user's votes for the node that the candidate stands on, "
        f"and days since the newest. {len(found)} of {len(asked)} candidates stand on a node with votes.",
        ("candidate", "answer", "score", *partitions),
        rows,
        ("candidate", "answer"),
    )


def _at(votes: tuple[float, float] | None) -> Cell:
    return Cell("–") if votes is None else Cell(f"{votes[0]:,.3g}", muted=f"{votes[1]:,.0f} d")


def _weights(name: str, asked: tuple[Asked, ...]) -> Figure:
    """One bar per candidate, cut into the shares of its agents, that with most weight first."""
    shades = (ACCENT, GRAY, FAINT)

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        for row, one in enumerate(asked):
            left = 0.0
            for agent, shade in zip(one.agents, shades, strict=False):
                (bar,) = axes.barh(row, agent.weight, left=left, height=0.5, color=shade, edgecolor=GRAY, linewidth=0.6)
                hover(bar, f"{one.title}: {percent(agent.weight, 0)} from {agent.name}")
                left += agent.weight
            title = textwrap.shorten(one.title, 30, placeholder="…") or "–"
            most = textwrap.shorten(one.agents[0].name, 26, placeholder="…") if one.agents else "no agent"
            answer = "positive" if one.positive else "negative"
            axes.text(0, row - 0.36, f"{title} ({answer}, {fixed(one.probability, 2)})", fontsize=9.5, color=INK)
            axes.text(1, row - 0.36, most, fontsize=9.5, color=MUTED, ha="right")
        axes.set_ylim(len(asked) - 0.5, -0.9)
        axes.set_xlim(0, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")
        axes.set_xlabel("Share of what is read")
        axes.xaxis.set_major_formatter(SHARES)
        ticks(axes.xaxis)

    svg = draw("read", "What each candidate read of one user's agents", 60 + 42 * len(asked), paint)
    return Figure(
        "read",
        svg,
        f"What candidates read, by {name}",
        _seen(asked),
        f"The first {len(asked)} items that the user met in the test period, asked about at the time of the first, "
        "each with its answer and score. First the agent with most weight, named at the right, then the next two. One "
        "user is an example, no evidence.",
    )


def _seen(asked: tuple[Asked, ...]) -> str:
    """Whether candidates read different agents, and which reads one agent most."""
    having = [one for one in asked if one.agents]
    different = len({one.agents[0].path for one in having})
    agents = "one and the same agent" if different == 1 else f"{different} different agents"
    most = max(having, key=lambda one: one.agents[0].weight)
    first = most.agents[0]
    return (
        f"{len(having)} candidates read {agents} most. {most.title} leans on a single one most: "
        f"{percent(first.weight, 0)} of what it reads is from {first.name}."
    )
