"""Cut a stream of text at the first stop string, wherever the pieces of it fall."""

from collections.abc import Sequence


class StopStrings:
    """Holds text back as long as it could be the beginning of a stop string; a stop string itself is never told."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Take the next piece and return what can be told; after a stop string was found, nothing."""
        if self.found or not self._stops:
            return "" if self.found else text
        held = self._held + text
        cut = min((at for stop in self._stops if (at := held.find(stop)) >= 0), default=-1)
        if cut >= 0:
            self.found, self._held = True, ""
            return held[:cut]
        keep = max(_overlap(held, stop) for stop in self._stops)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """Return what is still held back at the end of the answer."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
