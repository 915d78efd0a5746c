"""Typed records: what a stage writes as JSON, its readers read by the name of a field.

Each room keeps the records of what its stages write in its module `records`, which imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import MANIFEST, read_json, write_json
from hisac_lab.base.errors import UserError, explain_os_error

HINT = "run the stage that makes it again"


class Record(BaseModel):
    """A JSON object, or a part of one; keys without a field are carried along, so that nothing is lost."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, ser_json_inf_nan="constants")

    @classmethod
    def of(cls, content: Any, where: str | Path) -> Self:
        """Checks what was read from `where`.

        Raises:
            UserError: One line that names the file and the field that is missing or of a wrong type.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(step) for step in first["loc"])
            raise UserError(where, first["msg"].lower(), HINT, field or None) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a JSON file.

        Raises:
            UserError: It is missing, or not what this version writes.
        """
        return cls.of(read_json(path), path)

    @classmethod
    def read_list(cls, path: Path) -> tuple[Self, ...]:
        """Reads a JSON file that lists such records.

        Raises:
            UserError: It is missing, or not what this version writes.
        """
        return tuple(cls.of(entry, path) for entry in read_json(path))

    @classmethod
    def read_lines(cls, path: Path) -> tuple[Self, ...]:
        """Reads a file with such a record on each line.

        Raises:
            UserError: It is missing, or not what this version writes.
        """
        try:
            return tuple(cls.of(json.loads(line), path) for line in path.read_text(encoding="utf-8").splitlines())
        except OSError as error:
            raise explain_os_error(error, path) from error
        except ValueError as error:
            raise UserError(path, f"is not JSON lines ({error})", HINT) from error

    def write(self, path: Path) -> None:
        """Writes a JSON file, whole or not at all.

        Raises:
            UserError: A number is not finite, or the place cannot be written.
        """
        write_json(path, self.facts())

    @staticmethod
    def write_list(path: Path, records: Iterable[Record]) -> None:
        """Writes a JSON file that lists records, whole or not at all.

        Raises:
            UserError: A number is not finite, or the place cannot be written.
        """
        write_json(path, [record.facts() for record in records])

    def facts(self) -> dict[str, Any]:
        """What was set, as JSON has it: a field left at its default is not in it."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Stored(Record):
    """A record that is a file of its own.

    Attributes:
        FILE: Name of the file in the directory that holds it.
    """

    FILE: ClassVar[str]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Reads the record in the directory `path`.

        Raises:
            UserError: It is missing, or not what this version writes.
        """
        return cls.read(Path(path) / cls.FILE)

    def save(self, out: Path) -> None:
        """Writes the record into the directory `out`.

        Raises:
            UserError: A number is not finite, or the place cannot be written.
        """
        self.write(Path(out) / self.FILE)


class Output(Stored):
    """The manifest of a stage's output.

    Attributes:
        arithmetic: In which the stage has computed, "portable" or "native".
    """

    FILE: ClassVar[str] = MANIFEST

    arithmetic: str = Field(default_factory=arithmetic.in_effect)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Reads the manifest in the directory `path`.

        Raises:
            UserError: The stage has not run, or its manifest is not what this version writes.
        """
        manifest = super().open(path)
        if "arithmetic" not in manifest.model_fields_set:
            raise UserError(Path(path) / MANIFEST, "field required", HINT, "arithmetic")
        return manifest

    def facts(self) -> dict[str, Any]:
        """What was set, and the arithmetic."""
        return {"arithmetic": self.arithmetic} | super().facts()


class Digested(Output):
    """The manifest of an output that a trained model remembers.

    Attributes:
        digest: Of what the output holds.
    """

    digest: str
