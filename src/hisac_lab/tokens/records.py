"""What the stages `embed` and `tokenize` write."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from hisac_lab.base.records import Output, Record, Stored

LATENTS = "latents"
"""Array of the items in the space of the codewords, where that is one of its own."""


class Embedded(Output):
    """Manifest of `embed`; `parts` by weight."""

    method: str
    parts: dict[str, float]
    items: int
    dim: int
    items_without_embedding: int
    without_text: str = "zero"


class Level(Record):
    """One level of the semantic IDs; purity and agreement only where they could be measured."""

    width: int
    use: float
    perplexity: float
    evenness: float
    entropy_bits: float
    explained_variance: float
    prefixes: int
    fan_out: float
    purity: float | None = None
    seed_agreement: float | None = None


class Quality(Record):
    """The measures of the gate; see `hisac_lab.tokens.quality.measure`."""

    levels: list[Level]
    ids: int
    occupancy: float
    collision_rate: float
    largest_bucket: int
    max_bucket_share: float
    fair_share: float
    explained_variance: float
    mean_squared_error: float
    cosine: float
    neighbor_overlap: float
    purity_by_chance: float | None = None
    purity_lift: float | None = None


class Refit(Record):
    """What a fit that started from an earlier one changed."""

    new_items: int
    old_items: int
    changed_ids: float
    changed_by_level: list[float]


class Fitted(Output):
    """Which method has fitted the codewords.

    Attributes:
        flat: Nodes of each flat codebook, by its name.
    """

    method: str
    flat: dict[str, int] = Field(default_factory=dict)


class Tokenized(Fitted):
    """Manifest of `tokenize`.

    Attributes:
        widths: Codes of each level.
        dim: Width of the embeddings.
        category: Name of the items' first field, whose purity was measured.
        refit: Empty for a fit from nothing.
        balanced: Whether crowded codes had a price; of residual k-means.
        latent: Width of the codewords' own space; of RQ-VAE.
    """

    widths: list[int]
    depth: int
    dim: int
    items: int
    items_without_id: int
    category: str | None
    quality: Quality
    refit: Refit | dict[str, int] = Field(union_mode="left_to_right")
    balanced: bool | None = None
    latent: int | None = None


class RandomFile(Stored):
    """The seed of random codes."""

    FILE: ClassVar[str] = "random.json"

    seed: int


class RQVAEFile(Stored):
    """How many layers an RQ-VAE has."""

    FILE: ClassVar[str] = "rqvae.json"

    encoder: int
    decoder: int
