"""What ran: versions of packages and the commit of the source, for provenance. Nothing is imported or run."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from functools import cache
from pathlib import Path

PACKAGES = ("labtui", "numpy", "msgspec", "safetensors", "torch", "transformers", "bitsandbytes", "gguf")
_SHA = re.compile(r"[0-9a-f]{40,64}")


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, of those installed; ``commit`` in a checkout."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = source_commit(Path(__file__).resolve().parent)
    return found | ({"commit": commit} if commit else {})


def source_commit(place: Path) -> str:
    """The commit that is checked out where ``place`` lies inside labtui's own repository; empty elsewhere.

    An installed package lies in no repository of ours, though perhaps in its user's: that one does not count.
    """
    for root in place.parents:
        if (root / ".git").exists():
            ours = (root / "sessions" / "labtui_sessions").resolve() == place
            return _head(root / ".git") if ours else ""
    return ""


def _head(git: Path) -> str:
    try:
        if git.is_file():  # a worktree: the file names the folder
            git = (git.parent / git.read_text().removeprefix("gitdir:").strip()).resolve()
        text = (git / "HEAD").read_text().strip()
        if not text.startswith("ref: "):
            return text if _SHA.fullmatch(text) else ""
        name = text.removeprefix("ref: ")
        shared = git / "commondir"
        common = (git / shared.read_text().strip()).resolve() if shared.is_file() else git
        for folder in (git, common):
            if (folder / name).is_file():
                sha = (folder / name).read_text().strip()
                return sha if _SHA.fullmatch(sha) else ""
        for line in (common / "packed-refs").read_text().splitlines():
            sha, _, packed = line.partition(" ")
            if packed == name and _SHA.fullmatch(sha):
                return sha
    except (OSError, UnicodeDecodeError):
        pass  # provenance that cannot be read is left out
    return ""
