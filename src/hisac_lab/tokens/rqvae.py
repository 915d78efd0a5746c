"""RQ-VAE: residual quantization in a learned latent space (Lee et al. 2022, as TIGER uses it for semantic IDs).

Latents are L2-normalized, and codewords are sums toward them, so routing compares agents and items in the latent
space (`project`), where one temperature fits as it does for the embeddings themselves. Loss: squared error of the
reconstruction plus, per level, |sg(r) - c|^2 + beta |r - sg(c)|^2, straight-through past the quantizer; beta and the
form are TIGER's (inferred for HiSAC: docs/papers/hisac.md#semantic-ids). Codewords start by residual k-means on the
first latents, and unused ones move to badly served items. Only the training needs torch; what is kept are plain
matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array, load_array, save_arrays
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import track
from hisac_lab.config.tokens import RQVAEConfig
from hisac_lab.tokens.kmeans import BLOCK, nearest
from hisac_lab.tokens.quantizer import ResidualQuantizer, fit
from hisac_lab.tokens.records import RQVAEFile

START_ITERATIONS = 10
Layers = tuple[tuple[Array, Array], ...]


@dataclass(frozen=True)
class RQVAE(ResidualQuantizer):
    """A trained autoencoder with its codewords.

    Attributes:
        encoder: Weight (in, out) and bias (out,) of each layer, float32; ReLU between, L2 norm at the end.
        decoder: The same on the way back, without the norm.
    """

    kind: ClassVar[str] = "rqvae"
    moves: ClassVar[bool] = True
    encoder: Layers = ()
    decoder: Layers = ()

    def project(self, vectors: Array) -> Array:
        """Unit latents of the embeddings: (n, D) to (n, S) float32."""
        latents = np.empty((len(vectors), self.encoder[-1][0].shape[1]), np.float32)
        for start in range(0, len(vectors), BLOCK):
            latents[start : start + BLOCK] = _forward(np.asarray(vectors[start : start + BLOCK]), self.encoder)
        norms = np.linalg.norm(latents, axis=1, keepdims=True)
        unit: Array = np.divide(latents, norms, out=np.zeros_like(latents), where=norms > 0)
        return unit

    def reconstruct(self, codes: Array) -> Array:
        """What the codes say of the embeddings: (n, l <= L) to (n, D) float32, through the decoder."""
        return _forward(self.decode(codes), self.decoder)

    def facts(self) -> dict[str, Any]:
        """What else the manifest says of it."""
        return {"latent": self.encoder[-1][0].shape[1]}

    def save(self, out: Path) -> None:
        """Writes codewords and layers as arrays."""
        super().save(out)
        RQVAEFile(encoder=len(self.encoder), decoder=len(self.decoder)).save(out)
        for name in ("encoder", "decoder"):
            for place, (weight, bias) in enumerate(getattr(self, name)):
                save_arrays(out, {f"{name}_{place}_weight": weight, f"{name}_{place}_bias": bias})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Opens what `save` wrote."""
        counts = RQVAEFile.open(path)

        def layers(name: str, count: int) -> Layers:
            names = ("weight", "bias")
            return tuple(
                tuple(np.array(load_array(path, f"{name}_{place}_{part}")) for part in names)  # type: ignore[misc]
                for place in range(count)
            )

        return cls(
            ResidualQuantizer.load(path).codewords,
            encoder=layers("encoder", counts.encoder),
            decoder=layers("decoder", counts.decoder),
        )


@arithmetic.one_thread()
def fit_rqvae(vectors: Array, widths: tuple[int, ...], config: RQVAEConfig, seed: int) -> RQVAE:
    """Trains on all items; the same vectors, settings and seed give the same model.

    Args:
        vectors: (n, D) float32, may be memory-mapped: only the rows of a batch are read.
        widths: Codes per level.
        config: The section `tokenize.rqvae`.
        seed: Seed of weights, k-means start and batches.

    Raises:
        UserError: Training diverges.
    """
    import torch
    from torch import Tensor

    random = np.random.default_rng(seed)
    across = (vectors.shape[1], *config.hidden, config.latent)
    start = RQVAE((), encoder=_draw(across, random), decoder=_draw(across[::-1], random))

    def draw(size: int) -> Array:
        rows = np.sort(random.choice(len(vectors), min(size, len(vectors)), replace=False, shuffle=False))
        return np.asarray(vectors[rows], np.float32)

    first = start.project(draw(max(config.batch, 32 * max(widths))))
    words = [torch.tensor(level) for level in fit(first, widths, START_ITERATIONS, seed).codewords]
    encoder, decoder = (
        [(torch.tensor(weight), torch.tensor(bias)) for weight, bias in layers]
        for layers in (start.encoder, start.decoder)
    )
    parameters = [*words, *(part for layer in (*encoder, *decoder) for part in layer)]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)  # exact square roots

    def forward(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
        for place, (weight, bias) in enumerate(layers):
            x = torch.addmm(bias, x, weight)
            x = torch.relu(x) if place + 1 < len(layers) else x
        return x

    used = [torch.zeros(width, dtype=torch.bool) for width in widths]
    for step in track(range(1, config.steps + 1), config.steps, "tokenize", "steps"):
        x = torch.from_numpy(draw(config.batch))
        latent = torch.nn.functional.normalize(forward(x, encoder), dim=1)
        quantized, pull = _quantize(latent, words, used, config.commitment, step % config.revive_every == 0)
        straight = latent + (quantized - latent).detach()
        loss = ((forward(straight, decoder) - x) ** 2).sum(1).mean() + pull
        if not torch.isfinite(loss):
            raise UserError(
                SETTINGS,
                f"the loss is not finite after {step} steps",
                "lower it",
                "tokenize.rqvae.learning_rate",
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def arrays(layers: list[tuple[Tensor, Tensor]]) -> Layers:
        return tuple((weight.detach().numpy(), bias.detach().numpy()) for weight, bias in layers)

    codebooks = tuple(codewords.detach().numpy() for codewords in words)
    return replace(start, codewords=codebooks, encoder=arrays(encoder), decoder=arrays(decoder))


def _quantize(latent: Any, words: list[Any], used: list[Any], commitment: float, revive: bool) -> tuple[Any, Any]:
    """Sum of the codewords nearest to the residuals, and the loss of all levels; notes in `used` which codes those are.

    With `revive`, idle codes are moved at each level before it is left, and the notes begin anew.
    """
    import torch

    residual, quantized, pull = latent, torch.zeros_like(latent), torch.zeros(())
    for level, codewords in enumerate(words):
        with torch.no_grad():
            codes = torch.from_numpy(nearest(residual.numpy(), codewords.detach().numpy())[0].astype(np.int64))
            used[level][codes] = True
            if revive:
                _revive(codewords, used[level], residual, codes)
                used[level].zero_()
        chosen = codewords[codes]
        pull = pull + ((residual.detach() - chosen) ** 2).sum(1).mean()
        pull = pull + commitment * ((residual - chosen.detach()) ** 2).sum(1).mean()
        quantized, residual = quantized + chosen, residual - chosen.detach()
    return quantized, pull


def _revive(codewords: Any, used: Any, residual: Any, codes: Any) -> None:
    """Codes that nothing used since the last time move onto the residuals that are served worst, in place."""
    idle = (~used).nonzero()[:, 0]
    far = ((residual - codewords[codes]) ** 2).sum(1)
    worst = far.argsort(descending=True, stable=True)[: len(idle)]
    codewords[idle[: len(worst)]] = residual[worst]


def _draw(across: tuple[int, ...], random: np.random.Generator) -> Layers:
    """Weights and biases uniform within one over the root of the fan-in."""
    return tuple(
        (
            random.uniform(-(wide**-0.5), wide**-0.5, (wide, narrow)).astype(np.float32),
            random.uniform(-(wide**-0.5), wide**-0.5, narrow).astype(np.float32),
        )
        for wide, narrow in pairwise(across)
    )


def _forward(vectors: Array, layers: Layers) -> Array:
    for place, (weight, bias) in enumerate(layers):
        vectors = vectors @ weight + bias
        if place + 1 < len(layers):
            vectors = np.maximum(vectors, 0)
    return np.asarray(vectors, np.float32)
