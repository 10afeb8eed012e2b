"""Pictures: sent in pieces, kept by their digest, and shown small in the sessions that are about them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from msgspec import Meta

from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import ImageStore, short
from labtui_kernels.broker.methods.registry import Params, method

if TYPE_CHECKING:
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker
    from labtui_kernels.broker.writer import LiveSession

MAX_ASKED = 10_000
MAX_PIECE = 4 * 1024 * 1024
MAX_NAME = 200
KEPT_VIEWS = 256
"""Pictures whose size and thumbnail are remembered, so that another session need not draw them anew."""

T = TypeVar("T")
Digest = Annotated[str, Meta(max_length=100)]


class Digests(Params):
    """``digests`` of pictures."""

    digests: Annotated[list[Digest], Meta(max_length=MAX_ASKED)]


class Put(Params):
    """A piece of a picture's file at ``offset``; ``last`` ends it and has it checked and stored."""

    digest: Digest
    offset: int
    data: bytes
    last: bool = False


class Add(Params):
    """A stored picture for a session, under the ``name`` that the user knows it by."""

    digest: Digest
    name: str = ""
    session: str | None = None


class Shown(Params):
    """``digest`` of one of the session's pictures."""

    digest: Digest
    session: str | None = None


@method("image.missing", Digests)
async def missing(broker: Broker, client: Client, params: Digests) -> list[str]:
    """Those of these pictures that the kernel lacks; the others it keeps until a job names them."""
    store = ImageStore()
    return await asyncio.to_thread(lambda: [one for one in params.digests if not store.touch(one)])


@method("image.put", Put)
async def put(broker: Broker, client: Client, params: Put) -> None:
    """Receive a picture in pieces; the last one has its bytes held against its digest and opened."""
    if len(params.data) > MAX_PIECE or params.offset < 0:
        raise UsageError(
            f"picture {short(params.digest)}: expected pieces of at most {MAX_PIECE:,} bytes, from offset 0"
        )
    await _opening(_receive, params, f".part-{broker.config.name}-{client.number}-{short(params.digest)}")


def _receive(params: Put, part_name: str) -> None:
    from labtui_kernels.broker.viewing import look_at

    store = ImageStore()
    place = store.path(params.digest)
    part = place.with_name(part_name)
    store.receive(part, params.offset, params.data)
    if not params.last:
        return
    try:
        if part.stat().st_size == 0:
            raise UsageError(
                f"picture {short(params.digest)}: no bytes came; expected those of an image file or a video"
            )
        store.check(part, params.digest)
        look_at(part, f"picture {short(params.digest)}")
        store.adopt(part, params.digest)
    finally:
        part.unlink(missing_ok=True)


@method("image.add", Add)
async def add(broker: Broker, client: Client, params: Add) -> None:
    """Journal a stored picture in a session, unless it is there; a job does so for the pictures of its spec."""
    await admit(broker.sessions.get(params.session), [params.digest], {params.digest: params.name})


@method("image.thumbnail", Shown)
async def shown(broker: Broker, client: Client, params: Shown) -> bytes:
    """The PNG of one of the session's pictures."""
    live = broker.sessions.get(params.session)
    seq = live.images.get(params.digest)
    found = await asyncio.to_thread(live.journal.read, seq, 1) if seq is not None else []
    data = found[0].data.get("thumbnail") if found else None
    if not isinstance(data, bytes):
        raise UsageError(f"session {live.id} has no picture {short(params.digest)}")
    return data


async def admit(live: LiveSession, digests: Iterable[str], names: Mapping[str, str]) -> None:
    """Journal those of the pictures that the session does not have yet. UsageError for one that is not stored."""
    for digest in digests:
        if digest not in live.images:
            data = await _opening(view, digest, names.get(digest, ""))
            if digest not in live.images:  # as another request may have added meanwhile
                live.append("image.added", data)
        else:
            ImageStore().require(digest, live.image_names.get(digest, ""))


async def _opening(work: Callable[..., T], *given: Any) -> T:
    """Do what opens files of others, which may take long, on threads that nothing else waits for."""
    return await asyncio.get_running_loop().run_in_executor(_openers, work, *given)


_openers = ThreadPoolExecutor(2, "labtui-open")
_views: OrderedDict[str, dict[str, Any]] = OrderedDict()


def view(digest: str, name: str = "") -> dict[str, Any]:
    """The data of ``image.added`` for a stored picture; UsageError when it is not stored, BadFile when damaged."""
    from labtui_kernels.broker.viewing import look_at

    called = "".join(ch for ch in Path(name).name if ch.isprintable())[:MAX_NAME] or short(digest)
    known = _views.get(digest)
    if known is None:
        store = ImageStore()
        store.read(digest, called)  # its bytes are those that it is named by
        known = look_at(store.path(digest), called)
        _views[digest] = known
        while len(_views) > KEPT_VIEWS:
            _views.popitem(last=False)
    else:
        ImageStore().require(digest, called)
    return {**known, "name": called}
