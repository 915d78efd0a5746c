"""The answer to a request that asks why: scores, and what the model read of the user for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hisac_lab.inference.explain import Explanation, explain
from hisac_lab.inference.request import Answer, Asked, RequestReader, answer_of
from hisac_lab.models.backbone import Ranker

EXPLAIN = "explain"
"""What asks for an explanation: of a request to the server, and a parameter of a registered version."""
EXPLAINED = 3
"""Agents of each candidate that an explanation names unless told otherwise."""


@torch.inference_mode()
def answer_explained(
    model: Ranker, reader: RequestReader, asked: Asked, names: Sequence[str], count: int = EXPLAINED
) -> tuple[Answer, Explanation]:
    """Scores of one request that brings its history, and what was read of it; nothing of an unknown candidate.

    Args:
        model: What scores.
        reader: What reads its requests.
        asked: The request.
        names: Ids of items by number.
        count: See `explain`.
    """
    history, candidates, context = reader.batch([asked])
    state = model.encode(history)
    answer = answer_of(asked, torch.sigmoid(model.answer(state, candidates, context)[0]), model.tasks)
    known = torch.from_numpy(asked.candidates >= 0)
    told = explain(model, history, state, candidates[:, known], names, count)
    if "candidates" in told:
        rest = iter(told["candidates"])
        told["candidates"] = [next(rest) if there else {} for there in known.tolist()]
    return answer, told
