"""Reads what the report shows of the codebook: first-level nodes, one user's votes, what candidates read of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.base.errors import explain_os_error
from hisac_lab.codebook.counting import Election
from hisac_lab.codebook.portrait import Voted, portray, typical, words_of
from hisac_lab.codebook.tree import Codebook
from hisac_lab.evaluation.records import AgentRead, CandidateRead, Readings
from hisac_lab.events.feedback import VotesFrom
from hisac_lab.events.store import EventStore
from hisac_lab.report.facts import Asked, Bar, Event, Share, Tile, UserPortrait
from hisac_lab.report.words import day

TITLES, WORDS, CUT, EVENTS = 5, 3, 8, 12


class CodebookReader:
    """The codebook with the items that stand in it.

    Args:
        prepared: Output of the stage `prepare`.
        embedded: Output of the stage `embed`.
        codebook: Output of the stage `codebook`.

    Raises:
        UserError: A stage has not run.
    """

    def __init__(self, *, prepared: Path, embedded: Path, codebook: Path) -> None:
        self.store = EventStore.open(prepared)
        self.book = Codebook.open(codebook)
        embeddings = load_array(embedded, "embeddings")
        self.vectors = embeddings if self.book.item_vectors is None else self.book.item_vectors
        try:
            table = self.store.item_table
        except OSError as error:
            raise explain_os_error(error, prepared / "items.parquet") from error
        self.texts = table["text"].astype(str).tolist()
        self.titles = table["title"].astype(str).tolist() if "title" in table else self.texts
        self.with_id: Array = np.flatnonzero(self.book.item_nodes[:, 0] >= 0)

    def tiles(self) -> tuple[Tile, ...]:
        """The first-level nodes, those with most items first."""
        tiles = []
        for node in np.argsort(-self.book.counts[0], kind="stable").tolist():
            children = (
                self.book.counts[1][self.book.parents[1] == node]
                if self.book.depth > 1
                else self.book.counts[0][[node]]
            )
            tiles.append(
                Tile(
                    code=int(self.book.codes[0][node]),
                    items=int(self.book.counts[0][node]),
                    children=tuple(sorted(children.tolist(), reverse=True)),
                    words=self._words(node, 0),
                    titles=tuple(self.titles[row] for row in typical(self.book, self.vectors, node, 0, TITLES)),
                )
            )
        return tuple(tiles)

    def portrait(
        self, election: Election, votes_from: VotesFrom, readings: Readings, models: Sequence[str]
    ) -> UserPortrait:
        """Votes of one user, and what candidates read of them.

        Args:
            election: Which leaves become agents, with a k for each level in use.
            votes_from: Which events vote.
            readings: The user, the request, and what models read for its candidates.
            models: Which of them to tell of.
        """
        book = self.book.cut(len(election.budgets))
        places, silent = self.store.voters(readings.user, votes_from, readings.end)
        portrait = portray(book, np.asarray(self.store.items[places]), election)
        levels = [[node for node in portrait.cut if node.level == level] for level in range(book.depth)]
        return UserPortrait(
            user=str(self.store.user_ids[readings.user]),
            day=day(readings.time),
            behaviors=portrait.behaviors + silent,
            voting=portrait.voting,
            covered=portrait.covered,
            agents=tuple(self._bar(agent, kept=True) for agent in portrait.agents),
            cut=tuple(self._bar(node, kept=False) for node in portrait.cut[:CUT]),
            cut_by_level=tuple((len(nodes), sum(node.votes for node in nodes)) for nodes in levels),
            events=self._events(places, book, {agent.node for agent in portrait.agents}),
            asked={name: self._asked(readings, readings.models[name]) for name in models},
        )

    def _asked(self, readings: Readings, found: Sequence[CandidateRead]) -> tuple[Asked, ...]:
        """What one model read for each candidate."""
        return tuple(
            Asked(
                self.titles[item],
                positive,
                candidate.probability,
                tuple(self._share(agent) for agent in candidate.agents),
                candidate.votes,
            )
            for item, positive, candidate in zip(readings.items, readings.positive, found, strict=True)
        )

    def _share(self, agent: AgentRead) -> Share:
        bar = self._bar(Voted(len(agent.path) - 1, agent.path[-1], votes=0, last=0), kept=True)
        return Share(bar.path, bar.name, agent.weight)

    def _events(self, voting: Array, book: Codebook, agents: set[int]) -> tuple[Event, ...]:
        """The newest of the events that vote, newest first; agents are leaves of the codebook as it is cut."""
        events = []
        for place in voting[: -EVENTS - 1 : -1].tolist():
            item = int(self.store.items[place])
            leaf = int(book.item_nodes[item, -1])
            vote = "none" if leaf < 0 else "agent" if leaf in agents else "pruned"
            path = "–" if leaf < 0 else "-".join(map(str, book.path(leaf, book.depth - 1)))
            events.append(Event(day(int(self.store.times[place])), self.titles[item], path, vote))
        return tuple(events)

    def _bar(self, voted: Voted, kept: bool) -> Bar:
        path = "-".join(map(str, self.book.path(voted.node, voted.level)))
        words = self._words(voted.node, voted.level)
        name = ", ".join(words) or self.titles[int(typical(self.book, self.vectors, voted.node, voted.level, 1)[0])]
        return Bar(path, voted.level + 1, voted.votes, name, kept)

    def _words(self, node: int, level: int) -> tuple[str, ...]:
        return tuple(words_of(self.texts, self.book.items_at(node, level), self.with_id, WORDS))
