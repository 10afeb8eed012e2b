"""A way to a kernel, for ``--via``, that goes dark: ``tunnel.py FOLDER COMMAND…`` passes bytes to a command.

While a file ``dark`` lies in the folder, what comes in on either side vanishes and nothing is closed: so does
a link whose packets are dropped. What came up in the dark stays dark.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO


class Tunnel:
    """Two pumps that share one fate."""

    def __init__(self, folder: Path) -> None:
        self.sign = folder / "dark"
        self.dark = False

    def pump(self, source: IO[bytes], sink: IO[bytes]) -> None:
        """Pass bytes until the source ends, or swallow them for good once it is dark."""
        while data := os.read(source.fileno(), 65536):
            self.dark = self.dark or self.sign.exists()
            if not self.dark:
                sink.write(data)
                sink.flush()
        if not self.dark:
            sink.close()


def main(folder: str, *command: str) -> None:
    """Run the command behind the tunnel; ends with it."""
    tunnel = Tunnel(Path(folder))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    threading.Thread(target=tunnel.pump, args=(sys.stdin.buffer, process.stdin), daemon=True).start()
    tunnel.pump(process.stdout, sys.stdout.buffer)
    process.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
