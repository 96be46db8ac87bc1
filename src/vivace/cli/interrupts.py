"""Every Ctrl-C is heard: what Python would lose of one is told to the main thread again.

Python's own handling loses an interrupt in two ways. It only sets a flag, which the main thread looks at between
instructions: one that comes between that look and a system call that waits (or to another thread) leaves the call
waiting. And a `KeyboardInterrupt` raised inside a callback of the interpreter (`__del__`, a weak reference's, the
garbage collector's) is reported as ignored and dropped.

Which handler is installed does not matter here, so asyncio's and training's own keep their meaning.
"""

import os
import signal
import sys
import threading
import time
from typing import Any

NUDGES_S = (0.05, 0.2, 1.0)
"""When the main thread is woken after an interrupt. A nudge means nothing: it ends a wait, so that Python looks."""
AGAIN = b"\0"


def hear_every_interrupt() -> None:
    """Watch over interrupts from now on; to be called once, in the main thread, before there is work."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    signal.signal(signal.SIGURG, _wake)  # ignored by default and used by nobody; Go wakes its threads with it, too
    signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    main = threading.main_thread().ident
    assert main is not None
    threading.Thread(target=_watch, args=(ours, main), name="interrupts", daemon=True).start()
    before = sys.unraisablehook

    def dropped(event: Any) -> None:
        if isinstance(event.exc_value, KeyboardInterrupt):
            os.write(theirs, AGAIN)
        else:
            before(event)

    sys.unraisablehook = dropped


def _wake(_number: int, _frame: object) -> None:
    """Do nothing: that the signal came has ended the wait."""


def _watch(source: int, main: int) -> None:
    while told := os.read(source, 64):
        if AGAIN in told:
            time.sleep(NUDGES_S[0])  # let the callback that dropped it return
            signal.pthread_kill(main, signal.SIGINT)
        elif signal.SIGINT in told:
            began = time.monotonic()
            for after_s in NUDGES_S:
                time.sleep(max(0.0, began + after_s - time.monotonic()))
                signal.pthread_kill(main, signal.SIGURG)
