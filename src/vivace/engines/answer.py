"""One answer on its way from tokens to chunks of text."""

from collections.abc import Sequence

from vivace.domain import Chunk, FinishReason, Usage
from vivace.engines.frames import Tokens
from vivace.engines.stops import StopStrings
from vivace.engines.tokens import Tokenizer


class Answer:
    """Decodes as tokens come; `cut` says that a stop string ended the answer before the engine did."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], prompt_tokens: int) -> None:
        self._decoder = tokenizer.stream()
        self._stops = StopStrings(stops)
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0
        self._cached_tokens = 0
        self._untold: list[int] = []
        self.cut = False

    def take(self, event: Tokens) -> Chunk | None:
        """Return the next chunk, None while there is nothing to tell; the one with the finish reason is the last."""
        text = ""
        finish: FinishReason | None = event.finish
        self._cached_tokens = max(self._cached_tokens, event.cached_tokens)
        for token in event.ids:
            self._completion_tokens += 1
            self._untold.append(token)
            text += self._stops.push(self._decoder.push(token))
            if self._stops.found:
                break
        if finish is not None and not self._stops.found:
            text += self._stops.push(self._decoder.flush())
            text += self._stops.flush()
        if self._stops.found:
            self.cut = finish is None
            finish = "stop"
        if not text and finish is None:
            return None
        ids, self._untold = tuple(self._untold), []
        usage = Usage(self._prompt_tokens, self._completion_tokens, self._cached_tokens) if finish else None
        return Chunk(text, ids, finish, usage)
