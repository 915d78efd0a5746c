"""params.yaml: generated files do not drift, and every mistake is told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kit import says

from hisac_lab.config.base import load_section, read_yaml
from hisac_lab.config.data import PrepareConfig
from hisac_lab.config.model import DINConfig, HiSACConfig, Models
from hisac_lab.config.params import Params, defaults, load_params, schema
from hisac_lab.config.run import SweepConfig, TrainConfig

ROOT = Path(__file__).parents[3]


def _edit(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The default file with pieces of text replaced."""
    text = defaults()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_params_yaml_of_the_repository_holds_the_defaults() -> None:
    assert (ROOT / "params.yaml").read_text() == defaults()


def test_the_json_schema_of_the_repository_is_that_of_the_classes() -> None:
    assert (ROOT / "workflow" / "params.schema.json").read_text() == schema()


def test_the_default_file_is_read_back_as_the_defaults(tmp_path: Path) -> None:
    assert load_params(_edit(tmp_path)) == Params()


def test_every_field_of_the_default_file_is_explained() -> None:
    lines = [line for line in defaults().splitlines() if line.strip() and not line.startswith("#")]
    bare = [line for line in lines if "  # " not in line]
    assert [line.strip() for line in bare] == [f"{name}:" for name in Params().models]


MISTAKES = [
    (
        "unknown key",
        ("learning_rate: 0.002", "learing_rate: 0.002"),
        ("train.learing_rate", "0.002", "`learning_rate`"),
    ),
    ("unknown key, none is close", ("epochs: 3", "epochs: 3\n  zzz: 1"), ("train.zzz", "value 1", "params default")),
    ("unknown section", ("\nembed:", "\nembeddings: {}\nembed:"), ("embeddings", "unknown key", "`embed`")),
    ("text for a number", ("epochs: 3", "epochs: many"), ("train.epochs", "'many'", "valid integer")),
    ("float for an integer", ("epochs: 3", "epochs: 3.0"), ("train.epochs", "3.0", "valid integer")),
    ("truth for an integer", ("epochs: 3", "epochs: true"), ("train.epochs", "True", "valid integer")),
    ("number in quotes", ("epochs: 3", 'epochs: "3"'), ("train.epochs", "'3'", "valid integer")),
    ("date for an integer", ("epochs: 3", "epochs: 2020-01-01"), ("train.epochs", "2020", "valid integer")),
    ("YAML reads 1e-3 as text", ("learning_rate: 0.002", "learning_rate: 1e-3"), ("'1e-3'", "with a point and")),
    ("not a number", ("learning_rate: 0.002", "learning_rate: .nan"), ("train.learning_rate", "nan", "finite")),
    ("infinite", ("learning_rate: 0.002", "learning_rate: .inf"), ("train.learning_rate", "inf", "finite")),
    ("too small", ("epochs: 3", "epochs: 0"), ("train.epochs", "value 0", "greater than or equal to 1")),
    ("inside a list", ("[32, 32, 32]", "[32, 1]"), ("tokenize.widths.1", "value 1", "greater than or equal to 2")),
    ("empty list", ("[32, 32, 32]", "[]"), ("tokenize.widths", "[]", "at least 1 item")),
    ("not one of the choices", ("order: sort", "order: random"), ("prepare.order", "'random'", "'sort' or 'refuse'")),
    ("unknown kind of model", ("kind: hisac", "kind: sasrec"), ("models.hisac.kind", "'sasrec'", "'din', 'hisac'")),
    ("no kind of model", ("    kind: hisac  # HiSAC\n", ""), ("models.hisac.kind", "is missing")),
    ("inside a model", ("agents: 32", "agents: 0"), ("models.hisac.agents", "value 0", "greater than or equal")),
    ("a budget of nothing", ("budgets: null", "budgets: [0, 3, 1]"), ("models.hisac.budgets.0", "value 0")),
    ("a section is a number", ("mlflow:  #", "mlflow: 3\nnothing:  #"), ("mlflow", "3", "object")),
    ("no room for the test", ("valid_share: 0.1", "valid_share: 0.3"), ("prepare", "leave nothing", "below 1")),
    ("a seed twice", ("seeds: [0, 1]", "seeds: [0, 0]"), ("experiment", "named twice", "once")),
    ("rounds do not fit", ("trials: 12", "trials: 13"), ("sweep", "multiple of round_size")),
    ("experiment names no model", ("models: [din_50", "models: [din_500"), ("experiment.models", "'din_500'")),
    ("sweep names no model", ("model: hisac", "model: nothing"), ("sweep.model", "'nothing'", "section models")),
    ("sweep names DIN", ("model: hisac", "model: din_50"), ("sweep.model", "'din_50'", "hisac can be swept")),
    (
        "reference not trained",
        ("reference: din_50", "reference: x"),
        ("evaluate.reference", "'x'", "experiment.models"),
    ),
    ("control not trained", ("control: din_50", "control: x"), ("abtest.control", "'x'", "experiment.models")),
    ("sweep deeper than codes", ("depth: [1, 2, 3]", "depth: [1, 4]"), ("sweep.depth", "4", "3 levels")),
    ("key twice", ("epochs: 3", "epochs: 3\n  epochs: 4"), ("line", "'epochs' is written twice")),
    ("broken YAML", ("epochs: 3", "epochs: [3"), ("line", "mend the YAML")),
    ("a list as key", ("epochs: 3", "? [epochs]\n  : 3"), ("line", "cannot be a key")),
]


@pytest.mark.parametrize(("change", "parts"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_told_in_one_short_line(tmp_path: Path, change: tuple[str, str], parts: tuple[str, ...]) -> None:
    path = _edit(tmp_path, change)
    with says(str(path), *parts) as told:
        load_params(path)
    assert len(str(told.value)) < len(str(path)) + 300


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "holds no sections"),
        (b"# nothing\n", "holds no sections"),
        (b"- 1\n", "holds no sections"),
        (b"a: caf\xe9\n", "not YAML in UTF-8"),
        (b"a: \x00\n", "not YAML in UTF-8"),
        (b"a: *b\n", "undefined alias"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with says(str(path), words):
        load_params(path)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("prepare: {}\n", ("train", "section is missing", "params default")),
        ("train: 3\n", ("train", "is 3, not a section", "indented")),
        ("train: {epoch: 1}\n", ("train.epoch", "unknown key", "`epochs`")),
    ],
)
def test_a_stage_that_reads_its_section_alone_names_it(tmp_path: Path, content: str, parts: tuple[str, ...]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with says(str(path), *parts):
        load_section("train", TrainConfig, path)


def test_a_section_is_read_without_the_others(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train: {epochs: 7}\nnonsense: 1\n")
    assert load_section("train", TrainConfig, path) == TrainConfig(epochs=7)


def test_anchors_and_merges_of_yaml_work(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: &base {kind: hisac, agents: 4}\nb:\n  <<: *base\n  agents: 8\n")
    assert read_yaml(path)["b"] == {"kind": "hisac", "agents": 8}


def test_settings_cannot_be_changed_after_reading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().epochs = 5  # type: ignore[misc]


def test_lists_of_the_file_become_tuples_and_null_none(tmp_path: Path) -> None:
    path = _edit(tmp_path, ("budgets: null", "budgets: [4, 2, 1]"), ("text: [title]", "text: []"))
    params = load_params(path)
    assert isinstance(params.models["hisac"], HiSACConfig)
    assert params.models["hisac"].budgets == (4, 2, 1)
    assert params.prepare.columns.text == ()
    assert load_section("prepare", PrepareConfig, path) == params.prepare


def test_models_are_found_by_name_and_a_missing_one_names_the_others(tmp_path: Path) -> None:
    models = load_section("models", Models, _edit(tmp_path))
    assert models.get("din_50") == DINConfig(whole_history=False)
    with says("params.yaml", "models", "'bert'", "din_50, din_whole, hisac"):
        models.get("bert")


def test_the_schema_knows_every_section_and_refuses_unknown_keys() -> None:
    known = yaml.safe_load(schema())
    assert set(known["properties"]) == set(Params.model_fields)
    assert known["additionalProperties"] is False


def test_numbers_of_the_search_space_are_checked_one_by_one() -> None:
    with pytest.raises(ValueError, match="less than or equal to 1"):
        SweepConfig(breadth=(0.5, 1.5))
