"""A process that cleans: reads batches from stdin, writes what became of them to stdout.

    python -m vivace.data.cleaning.worker

It ends when its stdin does, so it never outlives its parent.
"""

import signal
import sys

import msgspec

from vivace.config.data import DataSettings
from vivace.data.cleaning.batch import Cleaner, Plan
from vivace.data.cleaning.frames import Failure, Opening, read_frame, write_frame
from vivace.errors import VivaceError


def main() -> None:
    """Clean until there is nothing more to read."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints must not come between frames
    cleaner: Cleaner | None = None
    while (body := read_frame(source)) is not None:
        try:
            if cleaner is None:
                opening = msgspec.msgpack.decode(body, type=Opening)
                settings = DataSettings.model_validate_json(opening.settings)
                cleaner = Cleaner(Plan(settings, opening.steps, opening.label))
                write_frame(sink, msgspec.msgpack.encode(None))
            else:
                cleaned = cleaner.clean(msgspec.msgpack.decode(body, type=list[bytes]))
                write_frame(sink, msgspec.msgpack.encode(cleaned))
        except VivaceError as error:
            write_frame(sink, msgspec.msgpack.encode(Failure(type(error).__name__, error.message, error.hint)))
        except MemoryError:
            write_frame(sink, msgspec.msgpack.encode(Failure("ResourceError", "Cleaning ran out of memory.", "")))
            return


if __name__ == "__main__":
    main()
