"""What a session keeps of a picture's file: its size and a thumbnail.

A video is opened in a process of its own. Its decoders are much native code, its bytes come from outside, and the broker
must outlive them.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.models.pictures import open_picture, thumbnail
from labtui_kernels.models.videos import Video, container_of

SECONDS = 30.0
"""How long a video may take: counting the packets of the longest and decoding one frame takes a few seconds."""
MEMORY = 8 << 30
"""Address space that the process of a video may have, in bytes."""


def look_at(file: Path, name: str) -> dict[str, Any]:
    """``digest``, ``width``, ``height`` and ``thumbnail`` (PNG) of a picture, and a video's ``frames`` and ``seconds``.

    BadFile or UsageError in one line for what cannot be opened.
    """
    with file.open("rb") as opened:
        head = opened.read(16)
    return _apart(file, name) if container_of(head) else _described(file, name)


def _described(file: Path, name: str) -> dict[str, Any]:
    picture = open_picture(file, name)
    width, height = picture.size
    said = {"digest": picture.digest, "width": width, "height": height, "thumbnail": thumbnail(picture)}
    if isinstance(picture, Video):
        said |= {"frames": picture.total, "seconds": round(picture.seconds, 3)}
    return said


def _apart(file: Path, name: str) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", __name__, str(file), name]
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise BadFile(f"{name}: could not be opened within {SECONDS:.0f} s; make it shorter") from None
    if done.returncode:
        raise BadFile(
            f"{name}: the program that opens videos ended over it ({done.returncode}); save it again"
        )
    told = msgspec.msgpack.decode(done.stdout)
    if "refused" in told:
        raise (UsageError if told["usage"] else BadFile)(told["refused"])
    return told


def main() -> None:
    """``python -m labtui_kernels.broker.viewing FILE NAME``: the same on standard output, as msgpack."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        told = _described(Path(sys.argv[1]), sys.argv[2])
    except LabError as refused:
        told = {"refused": str(refused), "usage": isinstance(refused, UsageError)}
    except MemoryError:
        told = {
            "refused": f"{sys.argv[2]}: opening it takes more memory than it may; save it again",
            "usage": False,
        }
    sys.stdout.buffer.write(msgspec.msgpack.encode(told))


if __name__ == "__main__":
    main()
