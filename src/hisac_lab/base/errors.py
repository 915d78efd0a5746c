"""Errors that a person can act on."""

from __future__ import annotations

import errno
from pathlib import Path

SETTINGS = "settings"
"""Where a setting is at fault, whoever gave it; the command line puts its file's name in place of this word."""


class UserError(Exception):
    """Bad input or a full disk: one line that names the place, the field, the value and a hint.

    Args:
        where: The file (or table) at fault.
        what: What is wrong there, with the value.
        hint: What the user can do about it.
        field: Column, key or row inside the file.
    """

    def __init__(self, where: str | Path, what: str, hint: str, field: str | None = None) -> None:
        self.where, self.field, self.what, self.hint = str(where), field, what, hint
        place = f"{where}: {field}" if field else f"{where}"
        super().__init__(" ".join(f"{place}: {what}; {hint}".split()))

    def told(self, settings: str | Path) -> UserError:
        """The same, with the place the settings came from."""
        if self.where != SETTINGS:
            return self
        return UserError(settings, self.what, self.hint, self.field)

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str, str | None]]:
        """Travels from worker processes."""
        return type(self), (self.where, self.what, self.hint, self.field)


def explain_os_error(error: OSError, where: str | Path) -> UserError:
    """Turns an `OSError` of reading or writing `where` into one line with a hint."""
    path = error.filename or where
    # NumPy reports a short write without an error number.
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and " requested and " in str(error)):
        return UserError(path, "no space left on the device while writing", "free some space and run again")
    if error.errno in (errno.EACCES, errno.EPERM):
        return UserError(path, "permission denied", "make it readable and its folder writable for this user")
    if error.errno == errno.EROFS:
        return UserError(path, "the file system is read-only", "work in a copy of the folder elsewhere")
    if isinstance(error, FileNotFoundError):
        return UserError(path, "does not exist", "check the path, or run the stage that makes it")
    return UserError(path, error.strerror or str(error), "check the file and its folder")
