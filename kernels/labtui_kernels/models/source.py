"""Where a model comes from: a bundled name, a local folder, a Hub id, or a GGUF file. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labtui_artifacts import library
from labtui_artifacts.errors import BadFile, UsageError
from labtui_kernels.models.weights import weight_files

HUB_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,64}))?"
)
HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "merges.txt", "vocab.txt")


@dataclass(frozen=True)
class Source:
    """A model on this disk. ``text`` is what the user typed; ``revision`` is the Hub commit, else ``""``."""

    text: str
    kind: Literal["folder", "gguf"]
    path: Path
    name: str
    revision: str = ""


def locate(text: str, *, report: Callable[[float], None] = lambda fraction: None) -> Source:
    """Find the model that ``text`` names, fetching a Hub id that is not cached when the Hub is allowed.

    ``report`` follows a download. UsageError when there is nothing of that name; BadFile for a file of
    another kind.
    """
    if text in library.models():
        return Source(text, "folder", library.model_path(text), text)
    path = Path(text)
    try:
        path = path.expanduser()
        if text.strip() and path.is_dir():
            return Source(text, "folder", path.resolve(), path.resolve().name)
        if text.strip() and path.exists():
            return _file(text, path)
    except (OSError, ValueError, RuntimeError):
        path = Path("/")  # no path at all: too long, a NUL byte, or an unknown user's home
    match = HUB_ID.fullmatch(text)
    if match is None or path.suffix.lower() == ".gguf":
        raise UsageError(
            f"{text[:200]!r}: no such file or folder; a model is a bundled name "
            f"({', '.join(library.models())}), a folder, a .gguf file, or a Hub id (Qwen/Qwen3-0.6B)"
        )
    return _hub(text, match["repo"], match["revision"], report)


def _file(text: str, path: Path) -> Source:
    if not path.is_file():
        raise BadFile(f"{path}: is neither a file nor a folder; expected a model folder or a .gguf file")
    with path.open("rb") as handle:
        magic = handle.read(4)
    if magic != b"GGUF" and path.suffix.lower() != ".gguf":
        hint = (
            "name the folder that holds it"
            if path.suffix in (".safetensors", ".json")
            else "expected a .gguf file"
        )
        raise BadFile(f"{path}: a single file that is no GGUF file; {hint}")
    return Source(text, "gguf", path.resolve(), path.stem)


def _hub(text: str, repo: str, revision: str | None, report: Callable[[float], None]) -> Source:
    """The cached snapshot if it is whole, else a download."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        folder = None
    if folder is not None and _whole(folder):
        return Source(text, "folder", folder, repo, folder.name)
    if constants.HF_HUB_OFFLINE:
        state = "is only partly in" if folder is not None else "is not in"
        raise UsageError(
            f"{text}: no such folder here, and as a Hub id it {state} the cache ({constants.HF_HUB_CACHE}); "
            "offline (HF_HUB_OFFLINE), so fetch it first where there is a network, or give a path"
        )
    folder = _download(text, repo, revision, report)
    return Source(text, "folder", folder, repo, folder.name)


def _whole(folder: Path) -> bool:
    """Whether a snapshot holds a configuration and all the weights that it speaks of."""
    try:
        return (folder / "config.json").is_file() and all(file.is_file() for file in weight_files(folder))
    except (BadFile, UsageError):
        return False


def _download(text: str, repo: str, revision: str | None, report: Callable[[float], None]) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=list(HUB_FILES), tqdm_class=_reporting_bar(report)
        )
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"{text}: no such folder here, and no such model on {constants.ENDPOINT} (or it is private: "
            "log in with `hf auth login`)"
        ) from error
    except Exception as error:  # the Hub client raises its own, its transport's and the system's errors
        reason = " ".join(str(error).split())[:160]
        raise UsageError(
            f"{text}: no such folder here, not in the cache, and the Hub could not give it ({reason}); "
            "give a local path, or fetch it where there is a network"
        ) from error
    return Path(folder)


def _reporting_bar(report: Callable[[float], None]) -> Any:
    """A progress bar class that draws nothing and reports the share of bytes (or files) done."""
    from tqdm.auto import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})
            self.total = kwargs.get("total") or (len(args[0]) if args else 0)

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.total:
                report(self.n / self.total)

    return Bar
