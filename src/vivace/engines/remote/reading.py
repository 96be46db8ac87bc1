"""One answer on its way from bytes to text: where it is over, whether it is whole, and what it used."""

from collections.abc import Mapping
from typing import Any

from vivace.domain import Chunk, Request
from vivace.engines.remote.dialect import Reader
from vivace.engines.remote.failures import Failed, Teller, error_in, status_of
from vivace.engines.remote.stream import Body, Garbled
from vivace.engines.stops import StopStrings
from vivace.errors import RequestError


class Reading:
    """Takes pieces of a body and gives the text in them.

    `over` says that nothing more is to be read, `moved` that the last piece held tokens, told or not; `cut` that a
    stop string ended the answer here because the server did not end it there.
    """

    def __init__(self, reader: Reader, request: Request, teller: Teller) -> None:
        self._reader = reader
        self._teller = teller
        self._body = Body()
        self._stops = StopStrings(request.sampling.stop)
        self.over = False
        self.moved = False
        self.cut = False
        self.thought = False
        self.text = ""
        """All that was given on."""

    def take(self, piece: bytes) -> str:
        """Return the text that a piece adds, b"" being the end; raises `Failed`."""
        try:
            events = list(self._body.push(piece) if piece else self._body.end())
        except Garbled as error:
            what, may_pass = error.what, error.may_pass
        else:
            text = "".join(map(self._event, events))
            self.moved = bool(text) or self._reader.thought
            self.thought = self.thought or self._reader.thought
            self._reader.thought = False
            told = self._stops.push(text)
            self.cut = self._stops.found
            self.over = not piece or self._body.done or self.cut
            self.text += told
            return told
        hint = "" if may_pass else "Is base_url right? The address of most servers ends in /v1."
        raise self._teller.broken(what, retry=may_pass, hint=hint)

    def last(self) -> Chunk:
        """Return the last chunk; raises `Failed` for an answer that is not whole."""
        reader, tell = self._reader, self._teller
        if self.cut:
            return Chunk("", finish_reason="stop")
        if reader.filtered:
            message = f"The filter of the provider {tell.name} cut the answer off."
            raise Failed(RequestError(message, "messages", "content_filter"), outcome="up")
        if reader.strange:
            raise tell.broken(f"ended its answer for a reason that is not known here: {tell.quote(reader.strange)!r}")
        if reader.finish is None and self._body.whole:
            raise tell.broken("sent JSON that is no answer", retry=False, hint="Is base_url right?")
        if reader.finish is None:
            raise tell.broken("broke off its answer: it did not say that it was complete")
        rest = self._stops.flush() + reader.calls()
        self.text += rest
        return Chunk(rest, finish_reason=reader.finish, usage=reader.usage)

    def _event(self, data: Mapping[str, Any]) -> str:
        wrong = data.get("error") or data.get("object") == "error" or data.get("type") == "error"
        if wrong and (told := error_in(data)) is not None:
            raise self._teller.refused(status_of(told), {}, told)
        before = self._reader.finish
        text = self._reader.whole(data) if self._body.whole else self._reader.event(data)
        if text and before is not None:
            raise self._teller.broken("went on with its answer after it had ended it")
        return text
