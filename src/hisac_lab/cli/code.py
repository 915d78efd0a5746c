"""What the stage `code` writes: one small file for each model of params.yaml, with the digest of the code of its kind.

`train` depends on the file of its own model, and not on the room of all models: a new or changed kind leaves the
others fresh. Code of other distributions, which dvc.yaml cannot name, is seen in the same way. Nothing is imported.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from typing import Any

from hisac_lab.base import plugins
from hisac_lab.base.artifacts import digest_of
from hisac_lab.base.code import OURS, named
from hisac_lab.base.errors import UserError
from hisac_lab.base.records import Record
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.base import PARAMS_FILE, load_section, read_yaml
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.config.tokens import TokenizeConfig


class Coded(Record):
    """What is known of one model's code.

    Attributes:
        kind: Of the model.
        code: Digest of the files that its kind reaches.
    """

    kind: str
    code: str


class Experiment(Record):
    """The file of all models that are trained."""

    models: dict[str, Coded]


def files() -> dict[str, Any]:
    """Content of each file of the stage's output by its name, for params.yaml in the current folder.

    Raises:
        UserError: A model is of a kind that nobody brings.
    """
    models = {name: _of_kind(name, settings["kind"]) for name, settings in read_yaml(PARAMS_FILE)["models"].items()}
    experiment = load_section("experiment", ExperimentConfig).models
    dataset, method = load_section("acquire", AcquireConfig).dataset, load_section("tokenize", TokenizeConfig).method
    return {
        "source.json": _brought(plugins.SOURCES, dataset),
        "quantizer.json": _brought(plugins.QUANTIZERS, method),
        "experiment.json": {"models": {name: models[name] for name in experiment}},
        **{f"models/{name}.json": entry for name, entry in models.items()},
    }


def is_current() -> bool:
    """Whether the stage's output says what it would say now, other distributions included."""
    try:
        return all(Record.read(ARTIFACTS.code / name).facts() == content for name, content in files().items())
    except UserError:
        return False


@dataclass(frozen=True)
class BuiltIn:
    """What is read of one of this package's kinds of models without importing it.

    Attributes:
        module: Where it stands.
        needs_instances: As its settings say.
    """

    module: str
    needs_instances: bool


@cache
def kinds() -> dict[str, BuiltIn]:
    """This package's kinds of models by name, read from the classes of settings that have a field `kind`."""
    built_in = {}
    for path in sorted((OURS.home / "models").glob("[a-z]*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            body = node.body if isinstance(node, ast.ClassDef) else []
            fields = {field.target.id: field for field in body
                      if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)}  # fmt: skip
            match fields.get("kind"):
                case ast.AnnAssign(annotation=ast.Subscript(value=ast.Name("Literal"), slice=ast.Constant(str(kind)))):
                    reads = fields.get("needs_instances")
                    needs = reads is not None and isinstance(reads.value, ast.Constant) and bool(reads.value.value)
                    built_in[kind] = BuiltIn(f"{OURS.name}.models.{path.stem}", needs)
    return built_in


def needs_instances(kind: str) -> bool:
    """Whether a kind reads the instance store; only a kind of another distribution is imported to know."""
    if kind in kinds():
        return kinds()[kind].needs_instances
    from hisac_lab.models.catalog import KINDS

    return KINDS[kind].Config.needs_instances


def _of_kind(name: str, kind: str) -> dict[str, Any]:
    if kind in kinds():
        return {"kind": kind, "code": OURS.digest(kinds()[kind].module)}
    if plugins.find(plugins.MODELS, kind) is None:
        what = f"{kind!r} is no kind of model"
        raise UserError(PARAMS_FILE, what, "fix it, or install the package that brings it", f"models.{name}.kind")
    return {"kind": kind, **_brought(plugins.MODELS, kind)}


def _brought(group: str, name: str) -> dict[str, Any]:
    """Origin and digest of what another distribution brings, with the part of this package that it imports."""
    point = plugins.find(group, name)
    if point is None:
        return {}
    theirs = plugins.code(point)
    modules = theirs.reached([theirs.name, point.module])
    used = {name for module in modules for name in named(theirs, module) if OURS.holds(name)}
    return {**plugins.origin(group, name), "code": digest_of([theirs.digest(*modules), OURS.digest(*used)])}
