"""Errors a user may see. Each is one clear line and knows the exit code of the command that failed."""

from __future__ import annotations


class LabError(Exception):
    """Something went wrong in a way that one line can explain.

    ``str(error)`` is that line: what, where, what was expected, what to do.
    """

    exit_code: int = 1


class JobFailed(LabError):
    """The job ran and failed (exit code 1)."""

    exit_code = 1


class UsageError(LabError):
    """Wrong usage or a bad spec: the line names the field and what was expected (exit code 2)."""

    exit_code = 2


class Unreachable(LabError):
    """No such kernel, or it cannot be reached (exit code 3)."""

    exit_code = 3


class BadFile(LabError):
    """A file is not what it claims to be: damaged, of the wrong kind, or too new (exit code 4)."""

    exit_code = 4


BY_CODE: dict[int, type[LabError]] = {1: JobFailed, 2: UsageError, 3: Unreachable, 4: BadFile}


def from_code(code: int, message: str) -> LabError:
    """Rebuild the error of that exit code, as when it crossed the wire."""
    return BY_CODE.get(code, LabError)(message)
