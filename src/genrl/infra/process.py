"""What a long process owes its surroundings: one owner a directory, and an ear for signals."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from genrl.infra.errors import UserError

LOCK_FILE = ".lock"


def lock_directory(path: Path) -> IO[str]:
    """Lock a directory until the returned stream is closed or the process ends.

    A POSIX record lock: unlike flock's, forked workers that outlive a killed run do not hold on to it.

    Raises:
        UserError: If another process holds it.
    """
    stream = (path / LOCK_FILE).open("a+")
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.seek(0)
        owner = stream.read().strip() or "unknown"
        stream.close()
        raise UserError(f"--out {path} is in use by another genrl process ({owner}); wait or choose another") from error
    stream.truncate(0)
    stream.write(f"process {os.getpid()}")
    stream.flush()
    return stream


@contextmanager
def signals_call(stop: Callable[[int], None]) -> Iterator[None]:
    """Inside, SIGTERM and SIGINT call `stop` with their number instead of ending the process.

    Without effect outside the main thread, where Python allows no handlers.
    """
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            # A forked worker has inherited this handler and is to die of the signal as usual.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Run in a worker: it would wait for work for ever if its parent were killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
