"""Stage acquire: the raw files of the data set."""

from hisac_lab.base.artifacts import sha256_file, stage_output
from hisac_lab.cli import origin
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.base import load_section
from hisac_lab.sources.acquire import acquire
from hisac_lab.sources.records import Acquired
from hisac_lab.world.simulate import simulate


def run() -> None:
    """Runs the stage in the current folder."""
    config = load_section("acquire", AcquireConfig)
    with stage_output(ARTIFACTS.acquire) as out:
        if config.dataset == "world":
            facts = simulate(config.world, out=out)
            files = {path.relative_to(out).as_posix(): sha256_file(path) for path in sorted(out.rglob("*.*"))}
            Acquired(dataset="world", layout="world", files=files, **facts).save(out)
        else:
            acquire(config, out=out)
    origin.note(config)
