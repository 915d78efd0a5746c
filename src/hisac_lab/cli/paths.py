"""Where the stages of dvc.yaml put their outputs: one directory each, named after the stage."""

from pathlib import Path

GRAPH = Path("dvc.yaml")
LOCK = Path("dvc.lock")

ARTIFACTS = Path("artifacts")
CODE = ARTIFACTS / "code"
ACQUIRE = ARTIFACTS / "acquire"
INGEST = ARTIFACTS / "ingest"
SHARD = ARTIFACTS / "shard"
PREPARE = ARTIFACTS / "prepare"
EMBED = ARTIFACTS / "embed"
TOKENIZE = ARTIFACTS / "tokenize"
CODEBOOK = ARTIFACTS / "codebook"
INSTANCES = ARTIFACTS / "instances"
SWEEP = ARTIFACTS / "sweep"
PLAN = ARTIFACTS / "plan"
TRAIN = ARTIFACTS / "train"
EVALUATE = ARTIFACTS / "evaluate"
ABTEST = ARTIFACTS / "abtest"
REGISTER = ARTIFACTS / "register"

STAGES = {
    path.name: path
    for path in (
        ACQUIRE,
        INGEST,
        PREPARE,
        EMBED,
        TOKENIZE,
        CODEBOOK,
        INSTANCES,
        SWEEP,
        TRAIN,
        EVALUATE,
        ABTEST,
        REGISTER,
    )
}


def shard_path(index: int) -> Path:
    """Output of one instance of the stage `shard`."""
    return SHARD / str(index)


def code_path(model: str) -> Path:
    """What the stage `code` says of one model."""
    return CODE / "models" / f"{model}.json"


def plan_path(model: str) -> Path:
    """What the stage `plan` says of one model."""
    return PLAN / f"{model}.json"


REPORTS = Path("reports")
LEDGER = REPORTS / "ledger.jsonl"

WORK = Path(".work")
"""What survives a kill (checkpoints, journals); never an output."""

TIMINGS = Path("logs/timings.json")
"""What differs between machines; never an output."""

RECORDS = Path("logs/stages")
"""Which machine made each output (see `hisac_lab.cli.machine`); never an output."""
