"""Reading params.yaml: one frozen pydantic class per section, unknown keys and wrong types refused."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hisac_lab.base.errors import UserError, explain_os_error

PARAMS_FILE = Path("params.yaml")


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name: use letters, digits and underscores, a letter first, 64 at most; it becomes a part "
            "of file names, commands and rules"
        )
    return text


Name = Annotated[str, AfterValidator(_name)]
"""A name that every tool behind the door takes: DVC, Snakemake, a shell, a file system, MLflow."""
Seed = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
HalfLife = Annotated[float, Field(gt=0, le=1e6)]
"""Days after which an event counts half."""


class Section(BaseModel):
    """A section of params.yaml: frozen, strictly typed, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=BaseModel)


class _UniqueKeys(yaml.SafeLoader):
    """A YAML loader that refuses a key written twice, and reads 1e-05, as DVC writes it, as a number.

    A key is its text as it is written: yes and True are words there.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if isinstance(key_node, yaml.ScalarNode):
                key_node.tag = "tag:yaml.org,2002:str"
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(problem=f"{key!r} cannot be a key", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is written twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


MOST_VALUES = 1_000_000


def _size(node: Any, sizes: dict[int, int]) -> int:
    """How many values a document holds when its aliases are written out, counted without writing them out."""
    if not isinstance(node, dict | list):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = 0  # an alias inside what it names
        children = node.values() if isinstance(node, dict) else node
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in children)
    return sizes[id(node)]


def load_yaml(text: str) -> Any:
    """What a YAML text means; errors of `yaml` pass."""
    return yaml.load(text, Loader=_UniqueKeys)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        UserError: Missing, empty, not YAML, not a mapping, or a key written twice.
    """
    try:
        content = load_yaml(Path(path).read_text())
    except OSError as error:
        raise explain_os_error(error, path) from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else None
        raise UserError(path, str(error.problem or error), "fix the YAML there", line) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(path, f"is not YAML in UTF-8 ({error})", "save it as plain UTF-8 text") from error
    if _size(content, {}) > MOST_VALUES:
        raise UserError(path, f"holds more than {MOST_VALUES:,} values, by aliases", "write them out", "YAML")
    if not isinstance(content, dict):
        raise UserError(path, "holds no sections", "restore it with `hisac-lab params default > params.yaml`")
    return content


def parse(model: type[AnySection], content: dict[str, Any], where: Path | str, prefix: str = "") -> AnySection:
    """Checks `content` against a section class.

    Raises:
        UserError: One line that names the first field at fault, its value and a hint.
    """
    try:
        return model.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise _explain(error, content, where, prefix) from error


def load_section(name: str, model: type[AnySection], path: Path = PARAMS_FILE) -> AnySection:
    """Reads one section of params.yaml.

    Raises:
        UserError: The section is missing, or a field in it is wrong.
    """
    content = read_yaml(path)
    if name not in content:
        raise UserError(path, "section is missing", "copy it from `hisac-lab params default`", name)
    section = content[name]
    if not isinstance(section, dict):
        raise UserError(path, f"is {section!r}, not a section", "write its fields below it, indented", name)
    return parse(model, section, path, name)


def _explain(error: ValidationError, content: Any, where: Path | str, prefix: str) -> UserError:
    first = error.errors()[0]
    kind, steps = first["type"], [str(step) for step in first["loc"]]
    if kind.startswith("union_tag"):  # the field at fault is the one that tells the classes apart
        steps.append(first["ctx"]["discriminator"].strip("'"))
        kind = "missing" if kind == "union_tag_not_found" else kind
    if kind in ("extra_forbidden", "missing"):
        steps, last = steps[:-1], steps[-1]
    else:
        last = None
    # Unions insert the tag of the chosen member into the location; it is no key of the file.
    value, keys = content, []
    for step in steps:
        if isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            continue
        keys.append(step)
    field = ".".join([*([prefix] if prefix else []), *keys, *([last] if last else [])])
    if kind == "extra_forbidden" and last is not None:
        entry = value.get(last) if isinstance(value, dict) else None
        close = difflib.get_close_matches(last, [key for key in _known_keys(error.title) if key != last], n=1)
        hint = f"did you mean `{close[0]}`?" if close else "remove it, or see `hisac-lab params default`"
        return UserError(where, f"unknown key (value {entry!r})", hint, field)
    if kind == "missing":
        return UserError(where, "is missing", "see `hisac-lab params default` for its meaning and default", field)
    if kind == "value_error":  # a rule between fields: the message names them and their values
        rule, _, hint = str(first["ctx"]["error"]).partition(": ")
        return UserError(where, rule, hint or "change one of them", field or None)
    if kind == "too_short":
        return UserError(where, f"value {value!r} is too short", f"give at least {first['ctx']['min_length']}", field)
    message = first["msg"][0].lower() + first["msg"][1:]
    return UserError(where, f"value {value!r} is wrong", message, field)


def _known_keys(title: str) -> list[str]:
    keys: list[str] = []
    pending: list[type[BaseModel]] = [Section]
    while pending:
        cls = pending.pop()
        keys.extend(cls.model_fields)
        pending.extend(cls.__subclasses__())
    return keys
