"""The stages of the graph that leave an output directory: the only list of them in this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class _Output:
    """The output directory of the stage that the attribute is named after."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.stage = name

    def __get__(self, artifacts: Artifacts, owner: type) -> Path:
        return artifacts.at(self.stage)


@dataclass(frozen=True)
class Artifacts:
    """Where the output of each stage lies; the attributes stand in the order of the graph.

    Attributes:
        root: The folder of all outputs.
        shard: Folder with one output per shard.
        sweep: Folder with one output per swept model.
        train: Folder with one output per training run.
        register: Folder with one bundle per model.
    """

    root: Path

    code = _Output()
    acquire = _Output()
    ingest = _Output()
    shard = _Output()
    prepare = _Output()
    embed = _Output()
    tokenize = _Output()
    codebook = _Output()
    sweep = _Output()
    instances = _Output()
    plan = _Output()
    train = _Output()
    evaluate = _Output()
    abtest = _Output()
    register = _Output()

    def at(self, address: str) -> Path:
        """The output of a stage, or of one of its instances, by DVC's name: "prepare", "train@hisac-0"."""
        return self.root / address.replace("@", "/", 1)

    def shards(self, indices: tuple[int, ...]) -> list[Path]:
        """The outputs of these shards."""
        return [self.at(f"shard@{index}") for index in indices]

    def run(self, model: str, seed: int) -> Path:
        """The output of a training run."""
        return self.at(f"train@{model}-{seed}")

    def swept(self, model: str) -> Path:
        """The output of the sweep of one model."""
        return self.at(f"sweep@{model}")

    def sweeps(self) -> list[Path]:
        """The outputs of the sweeps that are here, by the name of the model."""
        return sorted(path for path in self.sweep.glob("[!.]*") if path.is_dir())

    def code_of(self, model: str) -> Path:
        """What the stage `code` says of one model."""
        return self.code / "models" / f"{model}.json"

    def plan_of(self, model: str) -> Path:
        """What the stage `plan` says of one model."""
        return self.plan / f"{model}.json"

    def bundle(self, model: str) -> Path:
        """A model's bundle."""
        return self.register / model


STAGES = tuple(name for name, value in vars(Artifacts).items() if isinstance(value, _Output))
BESIDE = ("sweep", "instances")
"""These wait for the stage above both, the stage below them for both; every other stage for the one above it."""
JUDGES = ("code", "plan")
"""These say of each model whether it is stale."""
SHOWN = tuple(name for name in STAGES if name not in (*JUDGES, "ingest", "shard"))
"""The stages that people are shown; `ingest` and `shard` are steps on the way to `prepare`."""
