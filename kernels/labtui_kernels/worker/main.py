"""The worker's entry: tie this process to its broker first, then load the model, then run the loop."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from typing import TYPE_CHECKING

from labtui_artifacts.errors import LabError
from labtui_kernels import protocol
from labtui_kernels.build import build_id
from labtui_kernels.worker.link import BrokerLink
from labtui_kernels.worker.watch import Watch

if TYPE_CHECKING:
    from labtui_kernels.worker.loop import Loop

PR_SET_PDEATHSIG = 1
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def tie_to_parent(death_pipe: int, parent: int) -> None:
    """Die with the broker, by the system's signal and by a pipe that only the broker holds open."""
    os.set_inheritable(death_pipe, False)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before the signal was set

    def wait() -> None:
        os.read(death_pipe, 1)
        os._exit(1)

    threading.Thread(target=wait, name="death-pipe", daemon=True).start()


def load(link: BrokerLink, watch: Watch) -> Loop:
    """Load the model that the broker's first message names."""
    message = link.inbox.get()
    if not isinstance(message, protocol.Load):
        raise LabError(f"the first message must be Load, not {type(message).__name__}")
    watch.phase("loading", message.budget)
    # Importing torch and transformers makes a great many objects that stay; going through them again and again is a sixth
    # of the time that a small model takes to load. What loading leaves behind in cycles holds no tensor.
    gc.disable()
    from pathlib import Path

    from labtui_artifacts.store import Store
    from labtui_kernels.models.load import load as load_model
    from labtui_kernels.models.threads import settle_threads

    settle_threads()
    loaded = load_model(
        message.source,
        dtype=message.dtype,
        device=message.device,
        quantize=message.quantize,
        progress=lambda phase, fraction: link.send(protocol.Progress(phase, fraction)),
    )
    from labtui_kernels.engine import Engine
    from labtui_kernels.worker.loop import Loop

    loop = Loop(link, watch, loaded, Engine(loaded), Store(Path(message.store)), message.halvings)
    gc.collect()
    gc.freeze()  # nor is any step held up by them later
    gc.enable()
    link.send(protocol.Ready(loaded.info.to_dict()))
    return loop


def main(arguments: list[str]) -> None:
    """``FD DEATH_FD PARENT_PID``: serve the broker at the other end of the socket ``FD``."""
    descriptor, death_pipe, parent = map(int, arguments)
    for number in IGNORED:  # the broker decides when to end; a scheduler signals every process of the job
        signal.signal(number, signal.SIG_IGN)
    tie_to_parent(death_pipe, parent)
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    link = BrokerLink(connection)
    link.send(protocol.Started(build_id(), os.getpid()))
    link.start()
    watch = Watch(link.send)
    watch.start()
    try:
        loop = load(link, watch)
    except LabError as error:
        link.send(protocol.Fatal(str(error), error.exit_code))
        return
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(str(error).split())[:500]
        link.send(protocol.Fatal(f"the model cannot be loaded: {type(error).__name__}: {reason}"))
        return
    loop.run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing is left to save, and torch takes a second to tidy up


if __name__ == "__main__":
    main(sys.argv[1:])
