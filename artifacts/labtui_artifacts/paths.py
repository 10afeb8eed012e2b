"""Where the lab keeps things: the home folder (kept) and the runtime folder (sockets, gone after a reboot).

``LABTUI_HOME`` and ``LABTUI_RUNTIME`` override both. Every folder made here is 0700, because sessions hold
prompts and the runtime folder holds the sockets through which a kernel is commanded.

The default runtime folder is ``/tmp/labtui-<uid>`` and not ``$TMPDIR`` or ``$XDG_RUNTIME_DIR``: schedulers
give each job a ``TMPDIR`` of its own and ``XDG_RUNTIME_DIR`` vanishes at logout, so a shell that comes back
later would look for its kernel in the wrong place.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import platformdirs

from labtui_artifacts.errors import LabError, Unreachable, UsageError

SOCKET_PATH_MAX = 107
"""Longest path of a Unix socket in bytes (``sun_path`` is 108 with its closing zero)."""

HOME_VARIABLE = "LABTUI_HOME"
RUNTIME_VARIABLE = "LABTUI_RUNTIME"


def home_location() -> Path:
    """Where the home folder is or would be; nothing is created."""
    chosen = os.environ.get(HOME_VARIABLE)
    return _absolute(chosen) if chosen else Path(platformdirs.user_data_path("labtui", appauthor=False))


def runtime_location() -> Path:
    """Where the runtime folder is or would be; nothing is created."""
    chosen = os.environ.get(RUNTIME_VARIABLE)
    if chosen:
        return _absolute(chosen)
    shared = Path("/tmp")
    base = shared if shared.is_dir() and os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return base / f"labtui-{os.geteuid()}"


def home() -> Path:
    """The home folder, made 0700 when missing; it may be a symlink (quotas force that) to a folder of ours.

    Raises UsageError when it cannot be made or belongs to someone else.
    """
    place = home_location()
    if place.is_symlink():
        place = Path(os.path.realpath(place))
    return secure_folder(
        place, what="home folder", advice=f"set {HOME_VARIABLE} to a folder of yours", tighten=False
    )


def runtime() -> Path:
    """The folder of sockets and the registry: a real folder, ours, 0700.

    Raises Unreachable (one line) when it is a symlink, belongs to someone else, or was open to others.
    """
    advice = f"remove it or set {RUNTIME_VARIABLE} to a folder of yours"
    return secure_folder(runtime_location(), what="runtime folder", advice=advice, error=Unreachable)


def sessions() -> Path:
    """``home()/sessions``: one folder a session."""
    return _inside("sessions")


def artifacts() -> Path:
    """``home()/artifacts``: the store."""
    return _inside("artifacts")


def images() -> Path:
    """``home()/images``: the pictures that a kernel was sent, by digest."""
    return _inside("images")


def claims() -> Path:
    """``home()/claims``: one file a claim."""
    return _inside("claims")


def logs() -> Path:
    """``home()/logs``: the kernels' rotating logs."""
    return _inside("logs")


def socket_path(name: str) -> Path:
    """``runtime()/<name>.sock``; raises Unreachable when that path is too long for a socket."""
    return check_socket_path(runtime() / f"{name}.sock")


def check_socket_path(path: Path) -> Path:
    """``path`` itself when a Unix socket may have it (at most 107 bytes), else Unreachable."""
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_MAX:
        raise Unreachable(
            f"socket path {path} has {length} bytes, at most {SOCKET_PATH_MAX} are possible: "
            f"set {RUNTIME_VARIABLE} to a shorter folder (now {path.parent}) or choose a shorter name"
        )
    return path


def secure_folder(
    path: Path,
    *,
    what: str = "folder",
    advice: str = "choose another folder",
    error: type[LabError] = UsageError,
    tighten: bool = True,
) -> Path:
    """Make ``path`` a private folder (0700) or check that it is one; returns it.

    Refused with one line: a symlink, something that is no folder, another owner, and (with ``tighten``) a
    folder that group or others may write. With ``tighten`` an existing folder of ours that others may only
    read is brought to 0700; without it an existing mode is left alone.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as problem:
        raise error(f"{what} {path} cannot be made ({problem.strerror}): {advice}") from problem
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as problem:
        if path.is_symlink():
            raise error(f"{what} {path} is a symlink, expected a real folder: {advice}") from problem
        if path.exists() and not path.is_dir():
            raise error(f"{what} {path} is not a folder: {advice}") from problem
        if path.exists() and path.stat().st_uid != os.geteuid():
            raise error(_foreign(what, path, path.stat().st_uid, advice)) from problem
        raise error(f"{what} {path} cannot be opened ({problem.strerror}): {advice}") from problem
    try:
        _check_ours(handle, path, what, advice, error, tighten)
    finally:
        os.close(handle)
    return path


def _check_ours(
    handle: int, path: Path, what: str, advice: str, error: type[LabError], tighten: bool
) -> None:
    found = os.fstat(handle)
    if found.st_uid != os.geteuid():
        raise error(_foreign(what, path, found.st_uid, advice))
    mode = stat.S_IMODE(found.st_mode)
    if not tighten or mode == 0o700:
        return
    if mode & 0o022:
        raise error(
            f"{what} {path} may be written by others (mode {mode:04o}, expected 0700): "
            f"look at what is in it, then chmod 700 it, or {advice}"
        )
    try:
        os.fchmod(handle, 0o700)
    except OSError as problem:
        raise error(f"{what} {path} cannot be made private ({problem.strerror}): {advice}") from problem


def _foreign(what: str, path: Path, owner: int, advice: str) -> str:
    return f"{what} {path} belongs to uid {owner}, expected {os.geteuid()}: {advice}"


def _inside(name: str) -> Path:
    return secure_folder(home() / name, what=f"{name} folder")


def _absolute(text: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100,PTH111  no symlink is followed here
