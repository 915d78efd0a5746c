"""The registry of models: one line per kind."""

from __future__ import annotations

import torch

from hisac_lab.config.model import (
    CompressConfig,
    DINConfig,
    ETAConfig,
    EveryModel,
    FrameConfig,
    HiSACConfig,
    IATConfig,
    IATSourceConfig,
    MeanConfig,
    MIRRNConfig,
    R2LEDConfig,
    SAMConfig,
    SDIMConfig,
    SIMConfig,
    TransformerConfig,
    TWINConfig,
    VotesConfig,
)
from hisac_lab.models.compressors import CompressBranch
from hisac_lab.models.contract import CardLine, ItemSpace, LongBranch
from hisac_lab.models.din import DINBranch
from hisac_lab.models.frame import Ranker
from hisac_lab.models.hisac import HiSACBranch
from hisac_lab.models.iat import IATBranch, InstanceSource
from hisac_lab.models.mirrn import MIRRNBranch
from hisac_lab.models.path_votes import VotesBranch
from hisac_lab.models.pooling import MeanBranch
from hisac_lab.models.r2led import R2LEDBranch
from hisac_lab.models.retrieval import ETABranch, SIMBranch
from hisac_lab.models.sam import SAMBranch
from hisac_lab.models.sdim import SDIMBranch
from hisac_lab.models.transformer import TransformerBranch
from hisac_lab.models.twin import TWINBranch

BRANCHES: dict[type, type[LongBranch]] = {
    DINConfig: DINBranch,
    MeanConfig: MeanBranch,
    SIMConfig: SIMBranch,
    ETAConfig: ETABranch,
    SDIMConfig: SDIMBranch,
    TWINConfig: TWINBranch,
    MIRRNConfig: MIRRNBranch,
    SAMConfig: SAMBranch,
    TransformerConfig: TransformerBranch,
    CompressConfig: CompressBranch,
    HiSACConfig: HiSACBranch,
    VotesConfig: VotesBranch,
    R2LEDConfig: R2LEDBranch,
    IATConfig: IATBranch,
}


def build(config: EveryModel, frame: FrameConfig, items: ItemSpace, seed: int) -> Ranker:
    """Builds a model with weights drawn from `seed`.

    Raises:
        UserError: The configuration asks for more than codebook, items or frame can give.
    """
    torch.manual_seed(seed)
    if isinstance(config, IATSourceConfig):
        return InstanceSource(config, frame, items)
    if isinstance(config, DINConfig) and not config.whole_history:
        return Ranker(frame, items, None)
    return Ranker(frame, items, BRANCHES[type(config)](config, frame, items))


def fidelity_card(config: EveryModel) -> tuple[CardLine, ...]:
    """What is stated, inferred and left out in the reconstruction."""
    return InstanceSource.card if isinstance(config, IATSourceConfig) else BRANCHES[type(config)].card
