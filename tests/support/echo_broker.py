"""A broker process for tests: the real daemon with the echo worker, and faults on request.

``LABTUI_SYNC`` delays every fsync by so many seconds; ``LABTUI_FULL`` names a file: while it exists, the journal
cannot be written, as on a full disk; ``LABTUI_LIMITS`` (JSON) tightens limits.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

import msgspec

from labtui_kernels.broker import config, daemon, keeper, supervisor, writer
from labtui_sessions import journal

supervisor.COMMAND = [sys.executable, str(Path(__file__).with_name("echo_worker.py"))]
keeper.build_id = lambda: "echo"  # the working tree may change while tests run
if delay := float(os.environ.get("LABTUI_SYNC", "0")):
    honest = writer.fsync

    def slow(log: journal.Journal) -> int:
        time.sleep(delay)
        return honest(log)

    writer.fsync = slow

full = os.environ.get("LABTUI_FULL", "")
if full:
    write = journal._pwrite

    def refuse(fd: int, data: bytes, offset: int) -> None:
        if Path(full).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(fd, data, offset)

    journal._pwrite = refuse

limits = os.environ.get("LABTUI_LIMITS", "")
if limits:
    check = daemon.prepare

    def prepare(name: str, given: bytes) -> config.Record:
        record = check(name, given)
        record.config.limits = msgspec.json.decode(limits, type=config.Limits)
        return record

    daemon.prepare = prepare

if __name__ == "__main__":
    daemon.main(sys.argv[1:])
