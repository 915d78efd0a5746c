"""params.yaml: generated files do not drift, and every mistake is told in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from kit import says
from pydantic import ValidationError

from hisac_lab.cli.params import Params, defaults, load_params, render, schema
from hisac_lab.config.base import load_section, read_yaml
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.model import BackboneConfig, ExperimentConfig
from hisac_lab.config.sweep import Range, Space, SweepConfig, Values
from hisac_lab.config.train import TrainConfig, TunedConfig
from hisac_lab.models.catalog import Models
from hisac_lab.models.din import DINConfig
from hisac_lab.models.hisac import HiSACConfig

ROOT = Path(__file__).parents[3]


def _edit(tmp_path: Path, changes: Mapping[str, str | None] = MappingProxyType({})) -> Path:
    """The default file with the values of some keys replaced (by any text) or, for None, their lines left out."""
    place: list[str] = []
    lines, left, replaced = [], dict(changes), False
    for line in defaults().splitlines():
        if line.lstrip().startswith("- "):  # an entry of the list above
            lines += [] if replaced else [line]
            continue
        name, _, _ = line.strip().partition(":")
        place = [*place[: (len(line) - len(line.lstrip())) // 2], name]
        key = ".".join(place)
        replaced = key in left
        if replaced:
            value = left.pop(key)
            if value is None:
                continue
            line = f"{line[: line.index(name)]}{name}: {value}"
        lines.append(line)
    assert not left, "the default file has no such key"
    path = tmp_path / "params.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_params_yaml_of_the_repository_is_right_whatever_its_user_has_chosen() -> None:
    load_params(ROOT / "params.yaml")


def test_the_json_schema_of_the_repository_is_that_of_the_classes() -> None:
    """Of the kinds that it knows: a new one is in the file when `hisac-lab params schema` has written it."""
    written, present = json.loads((ROOT / "workflow" / "params.schema.json").read_text()), json.loads(schema())
    known, kinds = (part["properties"]["models"]["additionalProperties"] for part in (written, present))
    for kind in set(kinds["discriminator"]["mapping"]) - set(known["discriminator"]["mapping"]):
        reference = kinds["discriminator"]["mapping"].pop(kind)
        kinds["oneOf"].remove({"$ref": reference})
        del present["$defs"][reference.rpartition("/")[2]]
    assert written == present


def test_the_default_file_is_read_back_as_the_defaults(tmp_path: Path) -> None:
    assert load_params(_edit(tmp_path)) == Params()


def test_every_field_of_the_default_file_is_explained() -> None:
    lines = [line.strip() for line in defaults().splitlines() if line.strip() and not line.startswith("#")]
    bare = [line for line in lines if "  # " not in line and not line.startswith("- ")]
    space = Params().sweep.space
    dimensions = [f"{key}:" for name, keys in space.items() for key in (name, *keys)]
    assert bare == [f"{name}:" for name in Params().models] + dimensions


RATE, EPOCHS = "train.learning_rate", "train.epochs"
MISTAKES: list[tuple[str, str, str | None, tuple[str, ...]]] = [
    ("unknown key", EPOCHS, "3\n  learing_rate: 0.1", ("train.learing_rate", "0.1", "`learning_rate`")),
    ("unknown key, none is close", EPOCHS, "3\n  zzz: 1", ("train.zzz", "value 1", "params default")),
    ("unknown section", "mlflow.mirror", "true\nembeds: {}", ("embeds", "unknown key", "`embed`")),
    ("text for a number", EPOCHS, "many", (EPOCHS, "'many'", "valid integer")),
    ("float for an integer", EPOCHS, "3.0", (EPOCHS, "3.0", "valid integer")),
    ("truth for an integer", EPOCHS, "true", (EPOCHS, "True", "valid integer")),
    ("number in quotes", EPOCHS, '"3"', (EPOCHS, "'3'", "valid integer")),
    ("date for an integer", EPOCHS, "2020-01-01", (EPOCHS, "2020", "valid integer")),
    ("text like a number", RATE, "'1e-3'", (RATE, "'1e-3'", "valid number")),
    ("not a number", RATE, ".nan", (RATE, "nan", "finite")),
    ("infinite", RATE, ".inf", (RATE, "inf", "finite")),
    ("too small", EPOCHS, "0", (EPOCHS, "value 0", "greater than or equal to 1")),
    ("inside a list", "tokenize.widths", "[32, 1]", ("tokenize.widths.1", "value 1", "greater than or equal to 2")),
    ("empty list", "tokenize.widths", "[]", ("tokenize.widths", "[]", "at least 1")),
    ("not one of the choices", "prepare.order", "random", ("prepare.order", "'random'", "'sort' or 'refuse'")),
    (
        "unknown kind of model",
        "models.hisac.kind",
        "sasrec",
        ("models.hisac.kind", "'sasrec'", "'eta', 'hisac'"),
    ),
    ("no kind of model", "models.hisac.kind", None, ("models.hisac.kind", "is missing")),
    ("inside a model", "models.hisac.agents", "0", ("models.hisac.agents", "value 0", "greater than or equal")),
    ("a budget of nothing", "models.hisac.budgets", "[0, 3]", ("models.hisac.budgets.0", "value 0")),
    ("no room for the test", "prepare.valid_share", "0.99", ("prepare", "leave nothing", "below 1")),
    ("a seed twice", "experiment.seeds", "[0, 0]", ("experiment", "named twice", "once")),
    ("rounds do not fit", "sweep.trials", "13", ("sweep", "multiple of round_size")),
    ("experiment names no model", "experiment.models", "[din_500]", ("experiment.models", "'din_500'")),
    ("sweep names no model", "sweep.models", "[nothing]", ("sweep", "'nothing'", "add sweep.space.nothing")),
    ("sweep of a field of others", "sweep.space.hisac.agents", "[4]\n      window: [3]", ("sweep.space.hisac.window",)),
    (
        "sweep of an empty range",
        "sweep.space.hisac.agents",
        "{low: 8, high: 4}",
        ("hisac.agents", "from 8 to 4 is empty"),
    ),
    (
        "sweep of a wrong value",
        "sweep.space.hisac.breadth",
        "[1.5]",
        ("hisac.breadth", "1.5", "less than or equal to 1"),
    ),
    ("reference not trained", "evaluate.reference", "x", ("evaluate.reference", "'x'", "experiment.models")),
    ("control not trained", "abtest.control", "x", ("abtest.control", "'x'", "experiment.models")),
    ("sweep deeper than codes", "sweep.space.hisac.depth", "[1, 99]", ("hisac.depth", "99", "3 levels")),
    ("key twice", EPOCHS, "3\n  epochs: 4", ("line", "'epochs' is written twice")),
    ("broken YAML", EPOCHS, "[3", ("line", "fix the YAML")),
    ("a list as key", EPOCHS, "3\n  ? [epochs]\n  : 3", ("line", "cannot be a key")),
]


@pytest.mark.parametrize(("key", "value", "parts"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_told_in_one_short_line(
    tmp_path: Path, key: str, value: str | None, parts: tuple[str, ...]
) -> None:
    path = _edit(tmp_path, {key: value})
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
        (b"train: 3\n", "train: value 3 is wrong; input should be an object"),
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


@pytest.mark.parametrize("text", ["1e-05", "1E-05", "1.0e-05", "0.00001", "+1.e-5"])
def test_a_number_is_one_however_it_is_written(tmp_path: Path, text: str) -> None:
    assert load_params(_edit(tmp_path, {RATE: text})).train.learning_rate == 1e-5


def test_anchors_and_merges_of_yaml_work(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: &base {kind: hisac, agents: 4}\nb:\n  <<: *base\n  agents: 8\n")
    assert read_yaml(path)["b"] == {"kind": "hisac", "agents": 8}


def test_settings_cannot_be_changed_after_reading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().epochs = 5  # type: ignore[misc]


def test_lists_of_the_file_become_tuples_and_null_none(tmp_path: Path) -> None:
    path = _edit(tmp_path, {"models.hisac.budgets": "[4, 2, 1]", "prepare.columns.text": "[]"})
    params = load_params(path)
    assert isinstance(params.models["hisac"], HiSACConfig)
    assert params.models["hisac"].budgets == (4, 2, 1)
    assert params.prepare.columns.text == ()
    assert load_section("prepare", PrepareConfig, path) == params.prepare


def test_models_are_found_by_name_and_a_missing_one_names_the_others(tmp_path: Path) -> None:
    models = load_section("models", Models, _edit(tmp_path))
    assert models.get("din_50") == DINConfig(whole_history=False)
    with says("settings", "models", "'bert'", "din_50, din_whole, hisac, item_alone, user_alone"):
        models.get("bert")


@pytest.mark.parametrize(
    ("order", "model", "parts"),
    [
        ("none", "", ("models.iat", "instances.order is none", "temporal or user")),
        ("user", "    dim: 32\n", ("models.iat.dim is 32", "instances.dim is 64", "same")),
        ("temporal", "    stored: after\n", ("models.iat.stored is after", "no transformer", "before")),
        ("user", "    order: temporal\n", ("models.iat.order is temporal", "instances.order is user", "both")),
        ("both", "    order: temporal\n    stored: after\n", ("models.iat.stored is after", "no transformer")),
    ],
)
def test_a_model_that_reads_instances_needs_a_store_that_fits(
    tmp_path: Path, order: str, model: str, parts: tuple[str, ...]
) -> None:
    entry = "softmax\n  iat:\n    kind: iat\n"
    changes = {"experiment.models": "[din_50, iat]", "instances.order": order, "models.din_50.weights": entry}
    with says("params.yaml", *parts):
        load_params(_edit(tmp_path, changes | {"models.din_50.weights": entry + model}))
    idle = {"models.din_50.weights": entry + model}  # a model that is not trained needs no store
    assert "iat" in load_params(_edit(tmp_path, idle)).models
    assert load_params(_edit(tmp_path, changes | {"instances.order": "user"})).instances.order == "user"
    both = {"instances.order": "both", "models.din_50.weights": f"{entry}    order: temporal\n"}
    assert load_params(_edit(tmp_path, changes | both)).instances.order == "both"


def test_a_flat_codebook_that_a_model_names_is_one_of_the_tokenizer(tmp_path: Path) -> None:
    entry = "softmax\n  votes:\n    kind: votes\n    books: [residual, flat_64_2]\n"
    changes = {"experiment.models": "[din_50, votes]", "models.din_50.weights": entry}
    with says("params.yaml", "models.votes names the codebook flat_64_2", "tokenize.flat is [64]", "add 64 there"):
        load_params(_edit(tmp_path, changes | {"tokenize.flat": "[64]"}))
    assert load_params(_edit(tmp_path, changes | {"tokenize.flat": "[64, 64]"})).tokenize.flat == (64, 64)


def test_the_schema_knows_every_section_and_refuses_unknown_keys() -> None:
    known = yaml.safe_load(schema())
    assert set(known["properties"]) == set(Params.model_fields)
    assert known["additionalProperties"] is False


def test_a_search_space_is_written_key_by_key_and_read_back() -> None:
    space: dict[str, Space] = {
        "hisac": {
            "agents": Values(values=(4, 8)),
            "temperature": Range(low=0.01, high=1.0, log=True),
            "breadth": Values(values=(0.5,), when={"agents": 8}),
        }
    }
    params = Params(sweep=SweepConfig(space=space))
    written = render(params)
    assert "  space:  # of each model" in written
    assert "      agents:\n      - 4\n      - 8\n      temperature: {low: 0.01, high: 1.0, log: true}\n" in written
    assert Params.model_validate_json(json.dumps(yaml.safe_load(written))) == params


def test_what_is_tuned_for_one_model_lies_over_the_sections() -> None:
    tuned = TunedConfig(learning_rate=0.01, schedule="linear", dim=8)
    train, backbone = TrainConfig(), BackboneConfig()
    assert tuned.over(train) == train.model_copy(update={"learning_rate": 0.01, "schedule": "linear"})
    assert tuned.over(backbone) == backbone.model_copy(update={"dim": 8})
    assert TunedConfig().over(train) == train


def test_tuned_models_have_to_be_there_and_are_written_as_they_were_set() -> None:
    tuned = {"din_50": TunedConfig(batch_requests=64, epochs=1)}
    params = Params(experiment=ExperimentConfig(tuned=tuned))
    assert "tuned: {din_50: {batch_requests: 64, epochs: 1}}" in render(params)
    assert Params.model_validate_json(json.dumps(yaml.safe_load(render(params)))) == params
    with pytest.raises(ValidationError, match=r"experiment\.tuned names 'other', which is not in the section models"):
        Params(experiment=ExperimentConfig(tuned={"other": TunedConfig()}))
