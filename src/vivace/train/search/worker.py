"""A process that trains the trials it is told to, for a search with several at once.

    python -m vivace.train.search.worker PARENT

Reads JSON lines: what all trials share, then orders, and after each validation whether to go on. Writes JSON lines:
validations and what became of a trial. It ends with its parent, however that ends; its trial goes on at the last
checkpoint when it is ordered again. SIGINT ends it after the step at hand, which is kept.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from vivace.errors import VivaceError
from vivace.train.search.space import Value
from vivace.train.search.trial import Common, Ended, run_trial

_PR_SET_PDEATHSIG = 1


class Order(Struct, frozen=True):
    """A trial to run."""

    number: int
    point: dict[str, Value]


class Validated(Struct, frozen=True, tag=True):
    """A trial's validation, numbered from 1; the answer is whether it goes on."""

    number: int
    milestone: int
    loss: float


class Broken(Struct, frozen=True, tag=True):
    """Something is wrong with more than one trial's settings; `kind` is the error's class."""

    kind: str
    message: str
    hint: str


def main(parent: int) -> None:
    """Run trials until there is nothing more to read."""
    sink = _claim_stdout()
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    common = msgspec.json.decode(lines.get(), type=Common, dec_hook=_read_path)

    def tell(milestone: int, loss: float) -> bool:
        _send(sink, Validated(order.number, milestone, loss))
        return msgspec.json.decode(lines.get(), type=bool)

    while True:
        order = msgspec.json.decode(lines.get(), type=Order)
        answer: Ended | Broken
        try:
            answer = run_trial(common, order.number, order.point, tell)
        except VivaceError as error:
            answer = Broken(type(error).__name__, error.message, error.hint)
        _send(sink, answer)


def _read_path(kind: Any, value: str) -> Any:
    return kind(value)


def _claim_stdout() -> BinaryIO:
    """Keep stdout for messages and point descriptor 1 at stderr, so that what a library prints corrupts nothing."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sink


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _listen(lines: "queue.SimpleQueue[bytes]") -> None:
    rest = b""
    while read := os.read(0, 1 << 16):
        *whole, rest = (rest + read).split(b"\n")
        for line in whole:
            lines.put(line)
    os._exit(0)  # the parent has closed the pipe or is no more


def _send(sink: BinaryIO, message: Struct) -> None:
    sink.write(msgspec.json.encode(message, enc_hook=str) + b"\n")
    sink.flush()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except KeyboardInterrupt:
        os._exit(130)
