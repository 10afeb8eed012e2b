"""Settings, and the one place that says which wins: flag, then environment, then file, then default.

The file is ``$LABTUI_HOME/config.toml``::

    kernel = "toy"                  # the kernel to open when none is named      LABTUI_KERNEL   --kernel
    via = "ssh node"                # the way to its machine                      LABTUI_VIA      --via

    [app]
    theme = "lab-dark"              #                                             LABTUI_THEME
    low_bandwidth = false           # fewer frames, no animation                  LABTUI_LOW_BANDWIDTH
    images = "kitty"                # pictures in pixels; cells, kitty or sixel    LABTUI_IMAGES   --images
    keys = { "app.quit" = "ctrl+q" }  # action id to key

    [remote]
    command = "~/lab/bin/labtui"    # how labtui is called over there             LABTUI_REMOTE

    [profiles.big]                  # labtui kernel start NAME --profile big
    model = "Qwen/Qwen3-8B"
    dtype = "bfloat16"
    device = "cuda"
    quantize = "4bit"
    idle_ttl = "8h"

Keys are strict: an unknown one is refused, naming the nearest. ``LABTUI_HOME`` and ``LABTUI_RUNTIME`` say
where things are and live in ``labtui_artifacts.paths``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from labtui_artifacts import paths
from labtui_artifacts.errors import UsageError

MAX_FILE = 1 << 20
PROFILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZE = ("4bit", "8bit")
_DEVICE = re.compile(r"auto|cpu|cuda(?::\d{1,3})?")
_DURATION = re.compile(r"\d+(?:\.\d+)?\s*(?:s|m|min|h|d)?|never")
_YES = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True)
class Profile:
    """How to load a model, under a name. ``quantize`` is None for not at all, ``idle_ttl`` a text ("8h")."""

    name: str
    model: str
    dtype: str = "auto"
    device: str = "auto"
    quantize: str | None = None
    idle_ttl: str | None = None


@dataclass(frozen=True)
class Settings:
    """The settings that hold now; ``sources``: of each, where from (flag, environment, file, default)."""

    kernel: str | None = None
    via: str | None = None
    theme: str | None = None
    low_bandwidth: bool = False
    images: str = "cells"
    keys: Mapping[str, str] = field(default_factory=dict)
    remote_command: str = "labtui"
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def profile(self, name: str) -> Profile:
        """The profile ``name``; UsageError names the nearest."""
        if name not in self.profiles:
            raise UsageError(f"no profile {name!r} in {location()}: {_nearest(name, self.profiles)}")
        return self.profiles[name]


@dataclass(frozen=True)
class _Option:
    """One setting: its place in the file, its variable, its check (its ValueError says what is expected)."""

    name: str
    table: str
    key: str
    variable: str | None
    default: Any
    check: Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 4096 or not value.isprintable():
        raise ValueError("a text of one line")
    return value


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _YES:
        return _YES[value.lower()]
    raise ValueError("true or false")


def _images(value: Any) -> str:
    if value not in ("cells", "kitty", "sixel"):
        raise ValueError("cells, kitty or sixel")
    return value


def _keys(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(key, str) and key for key in value.values()):
        raise ValueError('a table of action ids to keys, as { "app.quit" = "ctrl+q" }')
    return dict(value)


_OPTIONS = (
    _Option("kernel", "", "kernel", "LABTUI_KERNEL", None, _text),
    _Option("via", "", "via", "LABTUI_VIA", None, _text),
    _Option("theme", "app", "theme", "LABTUI_THEME", None, _text),
    _Option("low_bandwidth", "app", "low_bandwidth", "LABTUI_LOW_BANDWIDTH", False, _switch),
    _Option("images", "app", "images", "LABTUI_IMAGES", "cells", _images),
    _Option("keys", "app", "keys", None, {}, _keys),
    _Option("remote_command", "remote", "command", "LABTUI_REMOTE", "labtui", _text),
)
_TABLES = ("app", "remote", "profiles")
_PROFILE_KEYS = ("model", "dtype", "device", "quantize", "idle_ttl")


def location() -> Path:
    """Where the configuration file is or would be."""
    return paths.home_location() / "config.toml"


def settings(flags: Mapping[str, Any] | None = None, *, file: Path | None = None) -> Settings:
    """The settings that hold: each from ``flags`` (None counts as not given), environment, file or default.

    ``flags`` maps field names of ``Settings``. Raises UsageError with one line for anything wrong in the file
    or a variable.
    """
    place = file or location()
    said = read_file(place)
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    unknown = set(given) - {option.name for option in _OPTIONS}
    if unknown:
        raise TypeError(f"no such setting: {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for option in _OPTIONS:
        values[option.name], sources[option.name] = _resolve(option, given, said, place)
    return Settings(**values, profiles=_profiles(said.get("profiles", {}), place), sources=sources)


def read_file(place: Path) -> dict[str, Any]:
    """The configuration file as a table of known keys; empty without one, UsageError when it is wrong."""
    try:
        with place.open("rb") as handle:
            raw = handle.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise UsageError(f"{place}: cannot be read ({problem.strerror})") from problem
    if len(raw) > MAX_FILE:
        raise UsageError(f"{place}: longer than {MAX_FILE} bytes, no configuration file")
    try:
        said = tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"{place}: not TOML ({' '.join(str(problem).split())})") from problem
    top = [option.key for option in _OPTIONS if not option.table]
    _known(said, [*top, *_TABLES], place, "")
    for table in ("app", "remote"):
        inner = said.get(table, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{place}: {table} must be a table, as [{table}]")
        _known(inner, [option.key for option in _OPTIONS if option.table == table], place, f"{table}.")
    return said


def save_profile(profile: Profile, *, file: Path | None = None) -> None:
    """Add a profile to the file, leaving the rest (comments too) as it is; UsageError for a taken name."""
    from labtui_artifacts.files import write_atomically  # loads numpy, which no other setting needs

    place = file or location()
    if profile.name in settings(file=place).profiles:
        raise UsageError(
            f"{place}: profile {profile.name!r} exists already: choose another name or edit the file"
        )
    entry = {key: getattr(profile, key) for key in _PROFILE_KEYS if getattr(profile, key) is not None}
    _profiles({profile.name: entry}, place)
    before = place.read_text(encoding="utf-8") if place.exists() else ""
    lines = [
        f"[profiles.{_quoted(profile.name)}]",
        *(f"{key} = {_quoted(value)}" for key, value in entry.items()),
    ]
    text = "\n".join([*([before.rstrip("\n"), ""] if before.strip() else []), *lines, ""])
    if file is None:
        paths.home()
    write_atomically(place, lambda out: out.write(text.encode("utf-8")))


def _resolve(
    option: _Option, flags: Mapping[str, Any], said: Mapping[str, Any], place: Path
) -> tuple[Any, str]:
    table = said.get(option.table, {}) if option.table else said
    shown = f"{option.table}.{option.key}" if option.table else option.key
    variable = os.environ.get(option.variable) if option.variable else None
    if option.name in flags:
        value, source, where = flags[option.name], "flag", f"--{option.name.replace('_', '-')}"
    elif variable:
        value, source, where = variable, "environment", str(option.variable)
    elif option.key in table:
        value, source, where = table[option.key], "file", f"{place}: {shown}"
    else:
        return option.default, "default"
    try:
        return option.check(value), source
    except ValueError as problem:
        raise UsageError(f"{where}: expected {problem}, found {_shown(value)}") from problem


def _profiles(said: Any, place: Path) -> dict[str, Profile]:
    if not isinstance(said, dict):
        raise UsageError(f"{place}: profiles must be tables, as [profiles.big]")
    return {name: _profile(name, entry, place) for name, entry in said.items()}


def _profile(name: str, entry: Any, place: Path) -> Profile:
    where = f"{place}: profiles.{name}"
    if not PROFILE_NAME.fullmatch(name):
        raise UsageError(f"{where}: a profile's name has up to 64 of a-z, 0-9, '.', '_', '-'")
    if not isinstance(entry, dict):
        raise UsageError(f"{where} must be a table, as [profiles.{name}]")
    _known(entry, _PROFILE_KEYS, place, f"profiles.{name}.")
    for key, value in entry.items():
        if not isinstance(value, str) or not value or not value.isprintable():
            raise UsageError(f"{where}.{key}: expected a text, found {_shown(value)}")
    if "model" not in entry:
        raise UsageError(f"{where}: model is missing: a bundled name, a Hub id, a folder or a .gguf file")
    checked = Profile(name, **entry)
    if checked.dtype not in DTYPES:
        raise UsageError(f"{where}.dtype: expected one of {', '.join(DTYPES)}, found {checked.dtype!r}")
    if not _DEVICE.fullmatch(checked.device):
        raise UsageError(f"{where}.device: expected auto, cpu, cuda or cuda:N, found {checked.device!r}")
    if checked.quantize is not None and checked.quantize not in QUANTIZE:
        raise UsageError(
            f"{where}.quantize: expected one of {', '.join(QUANTIZE)}, found {checked.quantize!r}"
        )
    if checked.idle_ttl is not None and not _DURATION.fullmatch(checked.idle_ttl):
        raise UsageError(f"{where}.idle_ttl: expected 30s, 10m, 8h, 2d or never, found {checked.idle_ttl!r}")
    return checked


def _known(said: Mapping[str, Any], known: Any, place: Path, prefix: str) -> None:
    for key in said:
        if key not in known:
            raise UsageError(f"{place}: unknown key {prefix}{key}: {_nearest(key, known)}")


def _nearest(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
