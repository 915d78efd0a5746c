"""What is kept of a user for one version: sealed, so that no other version's, user's or damaged state is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.inference.request import Asked
from hisac_lab.models.contract import UserState

STATE, EVENTS = "state.", "events."
DIGEST, SEAL = 32, 16
"""Bytes in front of a packed state: whose bundle it is, and what tells that nothing has changed since."""


@dataclass(frozen=True)
class KeptState:
    """What is kept of a user: all that `score` needs, so that no event is looked at again.

    Attributes:
        time: Of what the ages in it count to, seconds.
        state: With one row.
        items: Items of the history, oldest first, where the model asks for the pair's own counts; (L,) int64.
        times: Their times; (L,) int64.
        feedback: Levels of the feedback on them; (L,) int64.
        told: The data set's own columns of user and request that are in it; (W,) float32.
        columns: Values of such columns that the store knows of the user; a request's own take their place.
    """

    time: int
    state: UserState
    items: Array
    times: Array
    feedback: Array
    told: Array
    columns: Mapping[str, Any] = field(default_factory=dict)

    def pack(self, digest: str, user: str) -> bytes:
        """As bytes, sealed as of one bundle (its SHA-256) and one user."""
        body = self.body()
        return bytes.fromhex(digest) + _seal(digest, user, body) + body

    def body(self) -> bytes:
        """As safetensors."""
        tensors = {STATE + name: part.contiguous() for name, part in self.state.tensors.items()}
        tensors |= {
            f"{EVENTS}items": torch.from_numpy(self.items.astype(np.int32)),
            f"{EVENTS}times": torch.from_numpy(self.times),
            f"{EVENTS}feedback": torch.from_numpy(self.feedback.astype(np.uint8)),
            "time": torch.tensor([self.time]),
            "told": torch.from_numpy(self.told),
            "columns": torch.tensor(list(json.dumps(dict(self.columns)).encode()), dtype=torch.uint8),
        }
        return save(tensors)

    @classmethod
    def unpack(cls, packed: bytes, digest: str, user: str) -> KeptState:
        """What `pack` wrote of this bundle and user.

        Raises:
            UserError: It is another bundle's or user's, or a byte of it has changed.
        """
        of, seal, body = packed[:DIGEST].hex(), packed[DIGEST : DIGEST + SEAL], packed[DIGEST + SEAL :]
        sound = seal == _seal(of, user, body)
        if not sound or of != digest:
            what = f"is of bundle {of[:12]}, here {digest[:12]}" if sound else "is damaged, or of another user"
            hint = "it is made anew from the history; `hisac-lab states fill` makes all anew"
            raise UserError("states", what, hint, f"state of user {user!r}")
        tensors = load(body)
        state = {name.removeprefix(STATE): part for name, part in tensors.items() if name.startswith(STATE)}
        items, times, feedback = (tensors[EVENTS + name].numpy() for name in ("items", "times", "feedback"))
        whole = (items.astype(np.int64), times, feedback.astype(np.int64))
        columns = json.loads(bytes(tensors["columns"].tolist()))
        return cls(int(tensors["time"]), UserState(state), *whole, tensors["told"].numpy(), columns)

    def answers(self, asked: Asked, refresh: int) -> bool:
        """Whether it may answer a request: it is of no later and no much earlier moment, and of the same columns.

        Args:
            asked: The request.
            refresh: How long a state answers after it was made, seconds.
        """
        return 0 <= asked.time - self.time <= refresh and np.array_equal(self.told, told_of(asked))


def told_of(asked: Asked) -> Array:
    """Own columns of user and request, one behind the other; (W,) float32."""
    return np.concatenate([np.zeros(0, np.float32), *(part[0] for _, part in sorted(asked.told.items()))])


def _seal(digest: str, user: str, body: bytes) -> bytes:
    return blake2b(json.dumps([digest, user]).encode() + body, digest_size=SEAL).digest()
