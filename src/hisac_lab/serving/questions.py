"""Bodies of requests, checked: the columns that a served version declares, or a user whose history is known here."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError, create_model

from hisac_lab.base.errors import UserError
from hisac_lab.config.serve import ServeConfig
from hisac_lab.inference.request import MODEL_INPUT, Column
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.states import UserHistory

Id = StrictStr | StrictInt
User = Annotated[StrictStr, Field(max_length=1_000)] | StrictInt
Integer = Annotated[StrictInt, Field(ge=-(1 << 63), lt=1 << 63)]
Seconds = Annotated[Integer, Field(ge=0)]
Explain = Annotated[StrictInt, Field(ge=1, le=1_000)] | StrictBool
"""Whether an answer tells what was read of the user, or how many agents of each candidate it names."""
KINDS: dict[tuple[str, bool], Any] = {
    ("id", True): list[Id],
    ("integer", True): list[Integer],
    ("integer", False): Integer,
    ("value", True): list[Any],
    ("value", False): Any,
    ("vector", True): list[list[float]],
}
"""Types of a request's columns, by kind and whether there are many."""
Body = TypeVar("Body", bound=BaseModel)
Question: TypeAlias = dict[str, Any]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Added(_Closed):
    """Events of a user, in any order."""

    user: User = Field(description="whose")
    items: list[Id] = Field(min_length=1, description="items, as in the log")
    times: list[Seconds] = Field(description="seconds")
    feedback: list[Any] | None = Field(None, description="value of each as in the log, null where it is unknown")


class Form:
    """What may be asked of one version.

    Args:
        columns: Those of its requests.
    """

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns
        fields: dict[str, Any] = {"user": (User | None, None), "explain": (Explain | None, None)}
        for column in columns:
            kind = KINDS[column.kind, column.many]
            fields[column.name] = (kind, ...) if column.name == "candidates" else (kind | None, None)
        self.model = create_model("Score", __base__=_Closed, **fields)

    def ask(self, body: Any, limits: ServeConfig) -> Question:
        """Checks a body.

        Raises:
            UserError: It holds something else, or too much.
        """
        question = _parsed(self.model, body).model_dump()
        given = [column.name for column in self.columns if question[column.name] is not None]
        if question["user"] is not None:
            if named := [name for name in given if name.startswith(("history_", "instance_"))]:
                what = f"stands beside the user {question['user']!r}, whose history is known here"
                raise UserError(MODEL_INPUT, what, "leave out one of them", named[0])
        else:
            for column in self.columns:
                if column.required and column.name not in given:
                    raise UserError(MODEL_INPUT, "is missing", "give it, or a user", column.name)
        _at_most(question["candidates"], limits.max_candidates, "candidates", "serve.max_candidates")
        _at_most(question["history_items"] or [], limits.max_history, "history_items", "serve.max_history")
        return question

    def schema(self) -> dict[str, Any]:
        """As a JSON schema."""
        schema: dict[str, Any] = self.model.model_json_schema()
        return schema


def added(body: Any, engine: Engine, limits: ServeConfig) -> tuple[str, UserHistory]:
    """Checks a body that adds events: whose, and which, in any order.

    Raises:
        UserError: It holds something else, or too much, or what the version could not read of a history.
    """
    new = _parsed(Added, body)
    _at_most(new.items, limits.max_history, "items", "serve.max_history")
    feedback = [None] * len(new.items) if new.feedback is None else new.feedback
    if not len(new.items) == len(new.times) == len(feedback):
        what = f"{len(new.items)} items, {len(new.times)} times and {len(feedback)} values do not fit"
        raise UserError(MODEL_INPUT, what, "give one of each per event", "times")
    try:
        engine.reader.check_events(new.times, feedback)
    except UserError as error:
        field = (error.field or "").removeprefix("row 0: history_")
        raise UserError(error.where, error.what, error.hint, field) from error
    return str(new.user), UserHistory([str(item) for item in new.items], new.times, feedback)


@lru_cache(4)
def _form(columns: tuple[Column, ...]) -> Form:
    return Form(columns)


def form_of(engine: Engine) -> Form:
    """What may be asked of a version."""
    return _form(engine.reader.columns)


def _at_most(values: list[Any], most: int, name: str, setting: str) -> None:
    if len(values) > most:
        raise UserError(
            MODEL_INPUT, f"{len(values):,} values are more than {most:,}", f"send less, or raise {setting}", name
        )


def _parsed(model: type[Body], body: Any) -> Body:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for at, part in enumerate(first["loc"]) if at == 0 or isinstance(part, int))
        value = repr(first["input"])
        what = f"{first['msg'][0].lower()}{first['msg'][1:]} ({value if len(value) < 60 else value[:57] + '...'})"
        raise UserError(MODEL_INPUT, what, "GET /schema says what a request holds", place) from error
