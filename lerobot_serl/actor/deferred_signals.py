"""Ctrl-C: what it looks like, and a few lines that it must not cut in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import ArgumentError
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTS = (KeyboardInterrupt, ArgumentError)


def is_interrupt(error: BaseException) -> bool:
    """Of one of :data:`INTERRUPTS`, whether it was a signal.

    ctypes, and with it OpenGL, turns one that comes while it converts an argument into an error of its own.
    """
    return isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt" in str(error)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Hold a first SIGINT or SIGTERM back until the end of the block; a second one, of an impatient person, acts at once.

    Elsewhere than in the main thread, which alone gets signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def hold(number: int, frame: FrameType | None) -> None:
        held.append((number, frame))
        if len(held) > 1:
            raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if held:
        handler = previous[signal.Signals(held[0][0])]
        if callable(handler):
            handler(*held[0])
