"""Settings given as keyword arguments, checked by the same classes as those of a file."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from hisac_lab.config.base import parse

Config = TypeVar("Config", bound=BaseModel)


def settings(section: type[Config], changes: dict[str, Any], call: str, prefix: str = "") -> Config:
    """A section with some settings changed.

    Args:
        section: Its class.
        changes: What differs from the defaults.
        call: The function they were given to, for messages.
        prefix: The argument that holds them, if they are not arguments themselves.

    Raises:
        UserError: One line that names the call, the setting, its value and what to write.
    """
    return parse(section, changes, f"{call}()", prefix)
