"""`hisac-lab params show`, `diff` and `set`, and `hisac-lab explain`: the settings beside their defaults."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

import pytest
import yaml
from kit import says

from hisac_lab.cli import edit, settings
from hisac_lab.cli.params import Params, defaults, load_params
from hisac_lab.config.base import PARAMS_FILE

ROOT = Path(__file__).parents[3]
PLAIN = defaults()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the graph and the default settings."""
    monkeypatch.chdir(tmp_path)
    shutil.copy2(ROOT / "dvc.yaml", "dvc.yaml")
    PARAMS_FILE.write_text(PLAIN)


def lines_changed(before: str) -> list[str]:
    """Lines taken from and put into the file, `-` or `+` in front."""
    pairs = difflib.ndiff(before.splitlines(), PARAMS_FILE.read_text().splitlines())
    return [line[0] + line[2:] for line in pairs if line[0] in "+-"]


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("train.epochs", "5", ["-  epochs: 3  # passes over the", "+  epochs: 5  # passes over the"]),
        ("train.learning_rate", "1e-5", ["-  learning_rate: 0.002  # Adam", "+  learning_rate: 1.0e-05  # Adam"]),
        ("acquire.path", "my log.csv", ["-  path:  # a local copy", "+  path: my log.csv  # a local copy"]),
        ("experiment.seeds", "[0, 1, 2]", ["+  - 2"]),
        ("models.hisac.budgets", "[4, 2, 1]", ["+    - 4", "+    - 2", "+    - 1"]),
        ("prepare.columns.text", "[]", ["-    text:  # columns", "-    - title", "+    text: []  # columns"]),
        ("prepare.columns.fields", "[genre]", ["-    fields: []  # cat", "+    fields:  # cat", "+    - genre"]),
        ("models.mine", "{kind: din}", ["+  mine: {kind: din}"]),
        ("embed.concat", "{text: 2.0}", ["-  concat: {cooc", "+  concat: {text: 2.0}  # concat only"]),
        ("mlflow.tracking_uri", "'http://a/#b'", ["-  tracking_uri: sqlite", "+  tracking_uri: http://a/#b  # SQLite"]),
    ],
)
def test_set_changes_the_value_and_no_other_byte(key: str, value: str, changed: list[str]) -> None:
    said = settings.change(key, value)
    found = lines_changed(PLAIN)
    assert len(found) == len(changed)
    assert all(line.startswith(begin) for line, begin in zip(sorted(found), sorted(changed), strict=True)), found
    assert said.startswith(f"{key}: ")
    load_params()


def test_many_keys_are_set_at_once_though_none_alone_would_be_right() -> None:
    with says("sweep", "trials must be a multiple of round_size"):
        settings.change("sweep.trials", "2")
    assert settings.change("sweep.trials", "2", "sweep.round_size", "2").splitlines() == [
        "sweep.trials: 2  # was 8",
        "sweep.round_size: 2  # was 4",
    ]
    assert len(lines_changed(PLAIN)) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train.epochs",), ("train.epochs", "has no value", "KEY VALUE")),
        (("train.epochs", "3", "train.patience"), ("train.patience", "has no value")),
        (("train.epochs", "4", "train.epochs", "5"), ("train.epochs", "twice")),
        (("train.epochs", "4", "train.patience", "x"), ("train.patience", "'x'")),
    ],
)
def test_of_many_keys_one_that_is_wrong_keeps_all_out(words: tuple[str, ...], said: tuple[str, ...]) -> None:
    with says(*said):
        settings.change(*words)
    assert PARAMS_FILE.read_text() == PLAIN


def test_setting_a_value_and_its_default_again_gives_the_file_back() -> None:
    for key, value in {
        "train.patience": "3",
        "tokenize.widths": "[8, 8, 8]",
        "prepare.columns.fields": "[a, b]",
    }.items():
        before = settings.told(settings.every(Params())[key].value)
        assert settings.change(key, value) == f"{key}: {value}  # was {before}"
        assert settings.change(key, value) == f"{key}: {value}  # as it was"
        settings.change(key, before)
        assert PARAMS_FILE.read_text() == PLAIN


def test_a_value_is_replaced_wherever_it_stands() -> None:
    changes = {bool: True, int: 77, float: 0.5, str: "a", type(None): [1, "b"], tuple: None, dict: {}}
    for key, setting in list(settings.every(Params()).items())[::6]:
        value = changes[type(setting.value)]
        content, place = yaml.safe_load(PLAIN), key.split(".")
        section = content
        for step in place[:-1]:
            section = section[step]
        section[place[-1]] = value
        text = edit.replaced(PLAIN, place, value)
        assert text is not None
        assert yaml.safe_load(text) == content, key
        assert [line.partition("# ")[2] for line in text.splitlines() if "# " in line] == [
            line.partition("# ")[2] for line in PLAIN.splitlines() if "# " in line
        ]


@pytest.mark.parametrize(
    ("text", "key", "value", "new"),
    [
        ("a: {b: 1, c: [x]} # d\n", "a.b", 2, "a: {b: 2, c: [x]} # d\n"),
        ("a: {b: 1, c: [x]} # d\n", "a.c", None, "a: {b: 1, c: null} # d\n"),
        ("a: {b: 1}\n", "a.c", [1], "a: {b: 1, c: [1]}\n"),
        ("a: {}\n", "a.b.c", 1, "a: {b: {c: 1}}\n"),
        ("a:\n  b: 1 # x\n\n# y\nc: 2", "a.d", 1, "a:\n  b: 1 # x\n  d: 1  # new\n\n# y\nc: 2"),
        ("a:\n  b: 1", "c", [1, 2], "a:\n  b: 1\nc:  # new\n- 1\n- 2"),
        ("a: # x\n    # y\n    - 1 # z\n    - 2\nb: 1\n", "a", 3, "a: 3 # x\n    # y\nb: 1\n"),
        ("a:\r\n  b: 1 # x\r\nc: 2\r\n", "a.b", 2, "a:\r\n  b: 2 # x\r\nc: 2\r\n"),
        ('a: "b\n  c" # x\n', "a", None, "a: # x\n"),
        ("a:\n  b:\n    c: 1  # gone\n  # kept\nd: 1\n", "a.b", {"e": 2}, "a:\n  b: {e: 2}\n  # kept\nd: 1\n"),
        ("a: [1, 2]\n", "a.b", 1, "a: {b: 1}\n"),
        (
            "a: # x\n  b:\n    c: 1\nd: 1\n",
            "a",
            {"b": {"c": [2, 3], "e": {"f": 4}}, "g": {}},
            "a: # x\n  b:\n    c:\n    - 2\n    - 3\n    e: {f: 4}\n  g: {}\nd: 1\n",
        ),
    ],
)
def test_a_file_of_any_form_keeps_its_form(text: str, key: str, value: object, new: str) -> None:
    assert edit.replaced(text, key.split("."), value, "new") == new


def test_a_key_that_is_not_written_yet_comes_with_its_description() -> None:
    PARAMS_FILE.write_text("train:\n  epochs: 4\nevaluate: {top: 5}\n")
    settings.change("train.patience", "2")
    settings.change("evaluate.seed", "1")
    settings.change("prepare.keep.train", "0.5")
    written = PARAMS_FILE.read_text().splitlines()
    assert written[1:4:2] == ["  epochs: 4", "evaluate: {top: 5, seed: 1}"]
    assert written[2].startswith("  patience: 2  # training ends after")
    assert written[4:] == ["prepare:", "  keep:", "    train: 0.5"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.epochs", "many", ("train.epochs", "'many'", "valid integer")),
        ("train.epochs", "[3", ("train.epochs", "'[3' is not YAML")),
        ("train.epoch", "3", ("train.epoch", "no such setting", "did you mean `train.epochs`")),
        ("epochs", "3", ("epochs", "`sweep.epochs` or `train.epochs`")),
        ("embed.concat.text", "3", ("no such setting", "`embed.concat`")),
        ("train", "{epochs: 3}", ("train", "is a section", "one key")),
        ("models.mine.agents", "3", ("models.mine.kind", "is missing")),
        ("models.hisac.agent", "3", ("models.hisac.agent", "unknown key", "`agents`")),
        ("evaluate.reference", "din", ("evaluate.reference", "'din'", "experiment.models")),
    ],
)
def test_what_is_wrong_is_one_line_and_writes_nothing(key: str, value: str, words: tuple[str, ...]) -> None:
    with says(*words):
        settings.change(key, value)
    assert PARAMS_FILE.read_text() == PLAIN


def test_a_wrong_value_can_be_set_right_and_another_wrong_one_stays_in_the_way() -> None:
    broken = PLAIN.replace("epochs: 3", "epochs: x")
    PARAMS_FILE.write_text(broken)
    with says("train.epochs", "'x'"):
        settings.change("backbone.dim", "8")
    assert PARAMS_FILE.read_text() == broken
    settings.change("train.epochs", "3")
    assert PARAMS_FILE.read_text() == PLAIN


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ({"epochs: 3": "epochs: &n 4", "top: 10": "top: *n"}, "5", "evaluate.top"),
        (
            {"  din_50:\n": "  din_50: &d\n", "\n\ninstances:": "\n  twin: *d\n\ninstances:"},
            "true",
            "models.twin.whole_history",
        ),
    ],
)
def test_a_value_that_another_key_shares_is_left_to_an_editor(old: dict[str, str], new: str, key: str) -> None:
    shared = PLAIN
    for one, other in old.items():
        shared = shared.replace(one, other)
    PARAMS_FILE.write_text(shared)
    with says(key, "without touching more", "editor"):
        settings.change(key, new)
    assert PARAMS_FILE.read_text() == shared


def test_diff_says_only_what_differs() -> None:
    assert settings.diff() == ""
    settings.change("train.epochs", "5")
    settings.change("train.patience", "2")
    settings.change("models.mine", "{kind: hisac, agents: 8}")
    assert settings.diff().splitlines() == [
        "models.mine.kind: hisac  # default absent",
        "models.mine.agents: 8  # default 32",
        "train.epochs: 5  # default 3",
        "train.patience: 2  # default null",
    ]


def test_a_default_model_that_is_gone_or_of_another_kind_is_a_difference() -> None:
    settings.change("experiment.models", "[din_50, hisac]")
    settings.change("models", "{din_50: {kind: mean}, hisac: {kind: hisac}}")
    assert settings.diff().splitlines() == [
        "models.din_50.kind: mean  # default din",
        "models.din_whole: absent  # default din",
        "models.item_alone: absent  # default linear",
        "models.user_alone: absent  # default linear",
        "experiment.models: [din_50, hisac]  # default [din_50, din_whole, hisac, item_alone, user_alone]",
    ]
    assert "# REMOVED: models.din_whole\n" in settings.show()
    assert settings.show().endswith("# REMOVED: models.user_alone\n")


def test_show_is_the_whole_with_what_differs_marked() -> None:
    assert settings.show() == PLAIN
    settings.change("train.epochs", "5")
    settings.change("experiment.seeds", "[3]")
    shown = settings.show()
    assert yaml.safe_load(shown) == yaml.safe_load(PARAMS_FILE.read_text())
    assert [line for line in shown.splitlines() if "CHANGED" in line] == [
        "  epochs: 5  # CHANGED, default 3: passes over the training samples",
        "  seeds:  # CHANGED, default [0, 1]: one training run per model and seed",
    ]


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        (
            "train.epochs",
            [
                "train.epochs: 5  # default 3",
                "passes over the training samples",
                "takes: integer, at least 1",
                "stages that depend on it: instances, sweep, train",
                "below these, where what they read has changed: plan, evaluate, abtest, register, report",
            ],
        ),
        ("models.din_50.whole_history", ["stages that depend on it: code, train@din_50-0, train@din_50-1"]),
        (
            "models.hisac",
            ["holds: kind, length, state_bits, soft_counts, ", "stages that depend on it: code, sweep, train@hisac-0"],
        ),
        ("models.hisac.kind", ["takes: one of ", "HiSAC"]),
        (
            "experiment.seeds",
            ["takes: list of (integer, at least 0), at least 1 of them", "it says how often they run: train"],
        ),
        ("train", ["train: one training run", "holds: epochs, batch_requests"]),
        ("mlflow.mirror", ["takes: boolean", "stages that depend on it: none"]),
        ("prepare.columns.label_range", ["takes: list of (number; number) or null"]),
        ("compute.device", ["takes: one of auto, cpu, cuda"]),
        ("embed.concat", ["takes: mapping to (number, above 0)"]),
    ],
)
def test_explain_says_meaning_values_and_stages(key: str, lines: list[str]) -> None:
    settings.change("train.epochs", "5")
    said = settings.explain(key).splitlines()
    for line in lines:
        assert any(one.startswith(line) for one in said), said


def test_explain_names_a_key_that_is_meant_and_needs_no_graph() -> None:
    Path("dvc.yaml").unlink()
    assert "stages" not in settings.explain("train.epochs")
    with says("params.yaml", "trian.epochs", "`train.epochs`"):
        settings.explain("trian.epochs")
    with says("params.yaml", "zzz", "params show"):
        settings.explain("zzz")
