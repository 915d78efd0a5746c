"""SimHash: signs of random projections (Charikar, STOC 2002); vectors at a small angle agree in most bits."""

from __future__ import annotations

import torch
from torch import Tensor

WORD = 31  # bits of a signature kept in one int32 word: the sign bit stays clear


def planes(dim: int, bits: int, seed: int) -> Tensor:
    """Random planes, (dim, bits) float32; the same from one seed."""
    return torch.randn(dim, bits, generator=torch.Generator().manual_seed(seed))


def sign_bits(vectors: Tensor, planes: Tensor) -> Tensor:
    """On which side of each plane a vector lies, in fp32: (..., D) and (D, b) to (..., b) bool."""
    with torch.autocast(vectors.device.type, enabled=False):
        return (vectors.float() @ planes) > 0


def pack(bits: Tensor) -> Tensor:
    """(..., b) bool to (..., words) int32, 31 bits a word."""
    words = []
    for begin in range(0, bits.shape[-1], WORD):
        chunk = bits[..., begin : begin + WORD]
        powers = 1 << torch.arange(chunk.shape[-1], dtype=torch.int32, device=bits.device)
        words.append((chunk * powers).sum(dim=-1, dtype=torch.int32))
    return torch.stack(words, dim=-1)


def bucket(bits: Tensor) -> Tensor:
    """The number written in up to 31 bits: (..., b) bool to (...) int64."""
    return pack(bits)[..., 0].long()


def hamming(queries: Tensor, keys: Tensor) -> Tensor:
    """Differing bits of packed signatures: (R, C, w) and (R, L, w) to (R, C, L) int32."""
    distance = torch.zeros(*queries.shape[:2], keys.shape[1], dtype=torch.int32, device=keys.device)
    for word in range(keys.shape[-1]):
        x = queries[:, :, None, word] ^ keys[:, None, :, word]
        x = x - ((x >> 1) & 0x55555555)  # counts of two bits each, then of four, of eight, of all
        x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
        x = (x + (x >> 4)) & 0x0F0F0F0F
        x = x + (x >> 8)
        distance += (x + (x >> 16)) & 0x3F
    return distance


def plain_hamming(queries: Tensor, keys: Tensor) -> Tensor:
    """Differing bits of unpacked signatures: (R, C, b) and (R, L, b) bool to (R, C, L)."""
    return (queries[:, :, None, :] != keys[:, None, :, :]).sum(dim=-1, dtype=torch.int32)
