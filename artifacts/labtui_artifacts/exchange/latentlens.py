"""Folders that LatentLens saves: ``layer_N/embeddings_cache.pt``, pickles of vectors and of captions' tokens.

They are not read. A pickle may run code; its vectors are cut to length 1, so that they cannot be centred; and it does not
say of which weights they are, which decides whether they mean anything to the model at hand. What can be had from it
safely is its captions, and an index built from them here is of the very model that is loaded.
"""

from __future__ import annotations

from pathlib import Path

from labtui_artifacts.errors import BadFile

CACHE = "embeddings_cache.pt"


def check(folder: Path) -> None:
    """Raise BadFile, with the way to an index of one's own, when ``folder`` or a layer of it is such a folder."""
    caches = [
        *sorted(folder.glob(f"layer_*/{CACHE}"))[:1],
        *([folder / CACHE] if (folder / CACHE).is_file() else []),
    ]
    if not caches:
        return
    name = caches[0].relative_to(folder)
    raise BadFile(
        f"{folder}: a LatentLens folder; its {name} is a pickle, which may run code, and does not name its model, so it is "
        "not read. Take its captions with torch's safe loader, one a line (each m['caption'] of torch.load("
        f"'{name}', weights_only=True)['metadata']), and build an index of the model at hand: labtui run index --set "
        "captions.file=captions.txt"
    )
