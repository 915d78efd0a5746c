"""Whether everything that is kept of a version is still what was registered: each digest is computed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mlflow.entities.model_registry import ModelVersion

from hisac_lab.base.artifacts import digest_of, sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.base.stages import Artifacts
from hisac_lab.registry.integrity import check_bundle, check_code
from hisac_lab.registry.origin import Origin
from hisac_lab.registry.promotion import Promoter
from hisac_lab.registry.records import Evidence, Registered
from hisac_lab.registry.versions import BUNDLE, CODE_TAG, MEND, MODEL, evidence_tags

RESTORE = "restore it with `dvc checkout`, or run the graph"


class Check(NamedTuple):
    """One part of a version and what became of it.

    Attributes:
        part: Its name.
        holds: Whether it is what was registered; None: it is not here to be compared.
        says: In words.
    """

    part: str
    holds: bool | None
    says: str


def check_version(
    promoter: Promoter, version: ModelVersion, artifacts: Artifacts, kept: Path | None
) -> Iterator[Check]:
    """Compares every part of a version, in the registry and on disk.

    Args:
        promoter: The registry.
        version: One of its versions.
        artifacts: Outputs of the stages, of this version's run or another.
        kept: The champion's folder; None where the version is not champion.
    """
    digest, versions = str(version.tags[BUNDLE]), promoter.versions
    yield _asked("bundle", f"SHA-256 {digest[:12]}, in the registry", lambda: versions.bundle(version))
    yield _asked(
        "code", "the package that serves it is the registered one", lambda: _code(versions.files(version), version)
    )
    yield _asked("weights", "those that the evidence speaks of", lambda: _weights(versions.files(version)))
    yield _asked("tags", "MLflow's numbers are those of the evidence", lambda: _tags(versions.files(version), version))
    yield _on_disk("files", artifacts.bundle(version.tags[MODEL]), digest, RESTORE)
    if kept is not None:
        yield _on_disk("champion", kept, digest, "`hisac-lab sync` brings it back")
    yield _asked("ledger", "its lines follow from each other", promoter.ledger.entries)
    origin = promoter.origin(version)
    if origin is None:
        yield Check("origin", None, "nobody recorded where it comes from")
        return
    sound = digest_of(origin.stages) == origin.pipeline
    yield Check("origin", sound, f"digests of the stages {'make' if sound else 'do not make'} {origin.pipeline}")
    yield from _stages(origin, artifacts)


def is_here(version: ModelVersion, artifacts: Artifacts) -> bool:
    """Whether the outputs that are here are of the run that made a version."""
    try:
        return version.tags[BUNDLE] in Registered.open(artifacts.register).models.values()
    except UserError:
        return False


def _asked(part: str, says: str, look: Callable[[], object]) -> Check:
    try:
        look()
    except UserError as error:
        return Check(part, False, str(error))
    return Check(part, True, says)


def _code(files: Path, version: ModelVersion) -> None:
    check_code(files, version.tags.get(CODE_TAG), MEND)


def _weights(files: Path) -> None:
    from hisac_lab.inference.bundle import weights_of  # with torch, which a look at versions does not wait for

    evidence, bundle = _evidence(files)
    if weights_of(bundle) != evidence.weights:
        raise UserError(bundle, f"has not the weights {evidence.weights} that were evaluated", MEND)


def _tags(files: Path, version: ModelVersion) -> None:
    evidence, _ = _evidence(files)
    for name, told in evidence_tags(evidence).items():
        if version.tags.get(name) != told:
            what = f"is {version.tags.get(name)}, the evidence says {told}"
            raise UserError(f"version {version.version}", what, "set it back in MLflow", f"tag {name}")


def _evidence(files: Path) -> tuple[Evidence, Path]:
    found = sorted(files.rglob(Evidence.FILE))
    if not found:
        raise UserError(files, "holds no evidence", MEND, Evidence.FILE)
    return Evidence.open(found[0].parent), found[0].parent


def _on_disk(part: str, folder: Path, digest: str, hint: str) -> Check:
    """A copy of the bundle outside of the registry; one of another version is no damage."""
    if not folder.is_dir():
        return Check(part, None, f"{folder} is not here")
    if part == "files" and not _listed(folder, digest):
        return Check(part, None, f"{folder} is of another run")
    return _asked(part, f"{folder} is the same", lambda: check_bundle(folder, digest, hint))


def _listed(folder: Path, digest: str) -> bool:
    try:
        return Registered.open(folder.parent).models.get(folder.name) == digest
    except UserError:
        return False


def _stages(origin: Origin, artifacts: Artifacts) -> Iterator[Check]:
    """Outputs of the stages, where those of its run are here; a run of `train` for each seed is dvc.lock's part."""
    try:
        here = Registered.open(artifacts.register).pipeline == origin.pipeline
    except UserError:
        here = False
    if not here:
        yield Check("stages", None, f"{artifacts.root} is of another run")
        return
    for stage, digest in origin.stages.items():
        if stage != "train" and (folder := artifacts.at(stage)).is_dir():
            same = sha256_tree(folder) == digest
            yield Check(stage, same, f"{folder} is {'the same' if same else f'not what it was; {RESTORE}'}")
