"""The settings beside their defaults: what differs, what a key means, and one value changed in the file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from hisac_lab.base.artifacts import write_file
from hisac_lab.base.errors import UserError
from hisac_lab.cli import edit, reach
from hisac_lab.cli.params import Params, inline, load_params, parsed, plain, render
from hisac_lab.config.base import PARAMS_FILE, load_yaml, read_yaml
from hisac_lab.models.catalog import KINDS


class Absent:
    """What a setting is that has no value, or no default."""

    def __repr__(self) -> str:
        """As it is printed."""
        return "absent"


ABSENT = Absent()


@dataclass(frozen=True)
class Setting:
    """One key with a value of its own.

    Attributes:
        value: Present value.
        default: Its default; of a model, that of the entry of this name, or of its kind.
        field: What the class says of it.
    """

    value: Any
    default: Any
    field: FieldInfo | None = None

    @property
    def changed(self) -> bool:
        """Whether it differs from its default."""
        return bool(self.value != self.default)


def show() -> str:
    """The whole file, every key that differs from its default marked with it.

    Raises:
        UserError: The file is wrong.
    """
    params = load_params()
    settings = every(params)

    def note(key: str, text: str) -> str:
        setting = settings.get(key)
        if setting is None or not setting.changed:
            return text
        mark = "ADDED" if setting.default is ABSENT else f"CHANGED, default {told(setting.default)}"
        return f"{mark}: {text}" if text else mark

    gone = [f"# REMOVED: {key}\n" for key, setting in settings.items() if setting.value is ABSENT]
    return render(params, note) + "".join(gone)


def diff() -> str:
    """A line for each key that differs from its default: key, value, default.

    Raises:
        UserError: The file is wrong.
    """
    changed = {key: setting for key, setting in every(load_params()).items() if setting.changed}
    return "".join(f"{key}: {told(one.value)}  # default {told(one.default)}\n" for key, one in changed.items())


def change(*words: str) -> str:
    """Gives keys the values that the words behind them mean as YAML, in the file and nowhere else.

    Args:
        words: A key, its value, the next key, its value.

    Returns:
        A line to print for each key.

    Raises:
        UserError: A key has no value or comes twice; or the file would not be right with all of them, or cannot be
            changed there. Nothing is written then.
    """
    command = "hisac-lab params set"
    keys, texts = words[::2], words[1::2]
    if len(keys) > len(texts):
        raise UserError(command, "has no value", "write KEY VALUE, and the next KEY VALUE behind it", keys[-1])
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UserError(command, "is there twice", "give each key one value", twice[0])
    return "\n".join(changes({key: _value(key, text) for key, text in zip(keys, texts, strict=True)}))


def changes(values: Mapping[str, Any]) -> list[str]:
    """Gives each key its value, in the file and nowhere else; gives the lines to print.

    Raises:
        UserError: The file would not be right with them, or cannot be changed there; nothing is written.
    """
    content, written = plain(read_yaml(PARAMS_FILE)), plain(read_yaml(PARAMS_FILE))
    for key, value in values.items():
        if not key.startswith("models.") and isinstance(_look_up(key, Params())[1], BaseModel):
            raise UserError(PARAMS_FILE, "is a section", "change one key of it at a time", key)
        _put(content, key, value)
    settings = every(parsed(content, PARAMS_FILE))
    text = old = PARAMS_FILE.read_bytes().decode()
    lines = []
    for key, value in values.items():
        before = _put(written, key, value)
        if before == value and type(before) is type(value):
            lines.append(f"{key}: {told(value)}  # as it was")
            continue
        setting = settings.get(key)
        comment = (setting.field.description or "") if setting and setting.field else ""
        new = edit.replaced(text, key.split("."), value, comment)
        if new is None or load_yaml(new) != written:
            what = "cannot be changed without touching more than its value"
            raise UserError(PARAMS_FILE, what, "change it with an editor", key)
        text = new
        lines.append(f"{key}: {told(value)}  # was {told(before)}")
    if text != old:
        write_file(PARAMS_FILE, text)
    return lines


def _put(content: dict[str, Any], key: str, value: Any) -> Any:
    """Puts a value into nested mappings; gives the one before."""
    *above, last = key.split(".")
    place: Any = content
    for step in above:
        below = place.get(step)
        place[step] = below if isinstance(below, dict) else {}
        place = place[step]
    before, place[last] = place.get(last, ABSENT), value
    return before


def explain(key: str) -> str:
    """What a key is, may be and does.

    Raises:
        UserError: There is no such key, or the file is wrong.
    """
    params = load_params()
    field, value = _look_up(key, params)
    description = (field.description if field else None) or "a model, by its name"
    if isinstance(value, BaseModel | dict) and (setting := every(params).get(key)) is None:
        names = list(value) if isinstance(value, dict) else list(type(value).model_fields)
        lines = [f"{key}: {description}", f"holds: {', '.join(names)}"]
    else:
        setting = every(params)[key]
        lines = [f"{key}: {told(setting.value)}  # default {told(setting.default)}", description]
        if field is not None:
            lines.append(f"takes: {_takes(key, field)}")
    return "\n".join([*lines, *reach.lines(key, params.model_dump(mode="json"))]) + "\n"


def every(params: Params) -> dict[str, Setting]:
    """Every setting by its dotted key; a default model that is not there has the value `ABSENT`."""
    base = Params()
    settings: dict[str, Setting] = {}
    for name in type(params).model_fields:
        if name != "models":
            settings |= _flat(name, getattr(params, name), getattr(base, name))
            continue
        for model, config in params.models.items():
            key, default = f"models.{model}", base.models.get(model)
            same = default if default is not None and type(default) is type(config) else _bare(config)
            settings |= _flat(key, config, same)
            was = ABSENT if default is None else default.kind
            settings[f"{key}.kind"] = Setting(config.kind, was, type(config).model_fields["kind"])
        for model in (name for name in base.models if name not in params.models):
            settings[f"models.{model}"] = Setting(ABSENT, base.models[model].kind)
    return settings


def told(value: Any) -> str:
    """A value in one line."""
    return repr(value) if value is ABSENT else inline(value)


def _flat(place: str, section: BaseModel, base: BaseModel) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for name, field in type(section).model_fields.items():
        key, value, default = f"{place}.{name}", getattr(section, name), getattr(base, name, ABSENT)
        if isinstance(value, BaseModel):
            settings |= _flat(key, value, default if isinstance(default, BaseModel) else _bare(value))
        else:
            settings[key] = Setting(value, default, field)
    return settings


def _bare(section: BaseModel) -> BaseModel:
    """The defaults of its class; a field without one is not there."""
    defaults: BaseModel = type(section).model_construct()
    return defaults


def _look_up(key: str, params: Params) -> tuple[FieldInfo | None, Any]:
    """The field of a key or section, and its present value."""
    field: FieldInfo | None = None
    value: Any = params
    for step in key.split("."):
        if isinstance(value, BaseModel) and step in type(value).model_fields:
            field, value = type(value).model_fields[step], getattr(value, step)
        elif value is params.models and step in params.models:
            field, value = None, params.models[step]
        else:
            raise _unknown(key, params)
    return field, value


def _unknown(key: str, params: Params) -> UserError:
    names = list(every(params))
    names += dict.fromkeys(name.rpartition(".")[0] for name in names)
    last = key.rpartition(".")[2]
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.8)
    close = close or [name for name in names if name.rpartition(".")[2] == last][:3]
    close = close or difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else "see `hisac-lab params show`"
    return UserError(PARAMS_FILE, "there is no such setting", hint, key)


def _value(key: str, text: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        raise UserError("hisac-lab params set", f"{text!r} is not YAML", "quote it for the shell", key) from error


BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "minItems": "at least",
    "maxItems": "at most",
}


def _takes(key: str, field: FieldInfo) -> str:
    if key.startswith("models.") and key.endswith(".kind"):
        kinds = sorted(name for name, kind in KINDS.items() if kind.Config.configurable)
        return f"one of {', '.join(kinds)}; each has keys of its own"
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return _words(TypeAdapter(annotation).json_schema())


def _words(schema: dict[str, Any]) -> str:
    """A JSON schema of a value in words."""
    if "enum" in schema:
        return "one of " + ", ".join(map(inline, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    kind = inline(schema["const"]) if "const" in schema else str(schema.get("type", "anything"))
    unit = " of them" if kind == "array" else ""
    bounds = [f", {word} {schema[name]:g}{unit}" for name, word in BOUNDS.items() if name in schema]
    if kind == "array":
        places = [_words(part) for part in schema.get("prefixItems", [])]
        kind = f"list of ({'; '.join(places)})" if places else f"list of ({_words(schema.get('items', {}))})"
        bounds = [] if places else bounds
    elif kind == "object":
        kind = f"mapping to ({_words(schema.get('additionalProperties', {}))})"
    return kind + "".join(bounds)
