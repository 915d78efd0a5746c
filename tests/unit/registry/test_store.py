"""The store: opened by one process at a time, and brought up to date as often as anyone likes."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pytest
from finished import edit
from kit import says
from registered import PRODUCT, apart, opened, register, store_in

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.registry.mirror import Lineage
from hisac_lab.registry.records import Registered
from hisac_lab.registry.store import Registry
from hisac_lab.registry.versions import CHAMPION

LINEAGE = Lineage("0123abc", {"train.epochs": 3})


def mirror(registry: Registry, artifacts: Artifacts) -> tuple[str, bool]:
    return registry.mirror(artifacts, LINEAGE, Path("nothing"))


def counted(registry: Registry) -> tuple[int, list[tuple[str, str]]]:
    """How many runs there are, and which versions."""
    versions = [(one.model, one.version) for one in registry.promoter.list()]
    return len(registry.client.search_runs([registry.experiment])), versions


def test_one_process_at_a_time_opens_the_store_and_all_find_one_experiment(empty_store: Path, tmp_path: Path) -> None:
    def is_free() -> bool:
        with (tmp_path / ".work/mlflow.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    with opened(empty_store, tmp_path) as one:
        assert not is_free()
        assert one.client.get_experiment(one.experiment).name == "tests"
    assert is_free()
    with opened(empty_store, tmp_path) as other:
        assert other.experiment == one.experiment
        assert other.promoter.ledger.path == tmp_path / "ledger.jsonl"
    with pytest.raises(ZeroDivisionError), opened(empty_store, tmp_path):
        raise ZeroDivisionError
    assert is_free()


def test_mirroring_again_adds_nothing_and_a_lost_model_comes_back_with_its_champion(
    registry: Registry, run: Artifacts
) -> None:
    top, new = mirror(registry, run)
    assert new
    assert counted(registry) == (15, [("base", "1"), ("new", "2")])
    registry.promoter.promote(None, None, PromotionConfig())
    assert mirror(registry, run) == (top, False)
    assert counted(registry) == (15, [("base", "1"), ("new", "2")])
    registry.client.delete_registered_model(PRODUCT)
    assert counted(registry) == (15, [])
    assert mirror(registry, run) == (top, False)
    assert counted(registry) == (15, [("base", "1"), ("new", "2")])
    champion = registry.versions.alias(CHAMPION)
    assert champion is not None
    assert registry.promoter.ledger.champions(PRODUCT) == [champion.tags["hisac_lab.bundle"]]


def test_the_challenger_is_of_the_present_outputs_also_when_they_are_those_of_before(
    registry: Registry, run: Artifacts
) -> None:
    path = run.abtest / "manifest.json"
    steps = (("one", True, 1), ("two", True, 2), ("one", False, 2))  # as `dvc checkout` restores the first; of `new`
    for fingerprint, new, versions in steps:
        edit(path, test_fingerprint=fingerprint)
        register(run)
        assert mirror(registry, run)[1] == new
        assert [one.tags["model"] for one in registry.versions.all()].count("new") == versions
        challenger = registry.versions.pick(None, None)
        assert challenger.tags["hisac_lab.bundle"] == Registered.open(run.register).models["new"]


def test_files_that_are_there_are_attached_and_replaced(registry: Registry, tmp_path: Path) -> None:
    top = registry.client.create_run(registry.experiment).info.run_id
    page, figure = tmp_path / "report.html", tmp_path / "curve.svg"
    figure.write_text("<svg/>")
    for text in ("one", "two"):
        page.write_text(text)
        registry.attach(top, [page, tmp_path / "nothing.md"], [figure])
    files = {file.path for folder in ("", "figures") for file in registry.client.list_artifacts(top, folder)}
    assert files == {"report.html", "figures", "figures/curve.svg"}
    assert Path(registry.client.download_artifacts(top, "report.html")).read_text() == "two"


def test_outputs_without_bundles_are_told(registry: Registry, tmp_path: Path) -> None:
    with says(f"{tmp_path / 'artifacts/register/manifest.json'}: does not exist"):
        mirror(registry, Artifacts(tmp_path / "artifacts"))


def test_a_damaged_bundle_is_not_mirrored(registry: Registry, run: Artifacts) -> None:
    path = run.bundle("new") / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with says(f"{path.parent}: is damaged: its SHA-256 is ", " was recorded; restore it with `dvc checkout`"):
        mirror(registry, run)
    assert counted(registry) == (0, [])


def test_a_folder_may_have_an_apostrophe_and_blanks_in_its_name(
    empty_store: Path, run: Artifacts, tmp_path: Path
) -> None:
    home = tmp_path / "o'brien's lab"
    home.mkdir()
    made = Artifacts(Path(shutil.copytree(run.root, home / "artifacts")))
    with opened(empty_store, home) as registry:
        top, _ = mirror(registry, made)
        assert mirror(registry, made) == (top, False)
        registry.promoter.promote(None, None, PromotionConfig())
        assert registry.versions.alias(CHAMPION) is not None
        assert registry.client.list_artifacts(top)


def test_an_experiment_is_made_below_the_root_of_its_files_and_keeps_it(empty_store: Path, tmp_path: Path) -> None:
    with opened(empty_store, tmp_path):
        pass
    there, root = store_in(tmp_path), f"file://{tmp_path}/files/"
    named = there.model_copy(update={"experiment": "elsewhere", "artifact_root": root})

    def open_(config: MLflowConfig) -> str:
        with apart(tmp_path), Registry.open(config, PRODUCT, tmp_path / "ledger.jsonl", tmp_path / ".work") as registry:
            return str(registry.client.get_experiment(registry.experiment).artifact_location)

    assert open_(named) == open_(named.model_copy(update={"artifact_root": None})) == f"{root}elsewhere"
    moved = named.model_copy(update={"artifact_root": "s3://bucket"})
    with says(
        f"the experiment 'elsewhere' keeps its files at {root}elsewhere; set mlflow.artifact_root to null, or name"
    ):
        open_(moved)
