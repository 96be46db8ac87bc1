"""Ask a model for texts, many at once, and keep what it wrote through interruptions."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from vivace.chain import answer
from vivace.config.data import AugmentSettings
from vivace.data.augment.acceptance import Refusal
from vivace.domain import Message, Request, Responder, Sampling
from vivace.errors import EngineError, RequestError
from vivace.store.files import append_line, read_journal

_MAX_SEED = 2**31


class Entry(Struct, frozen=True):
    """A line of the journal: texts by the key of what was asked, and whether each came to its own end."""

    texts: dict[str, tuple[str, bool]]


class Journal:
    """Texts that were written, kept in a file: who asks again for the same gets the same at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts: dict[str, tuple[str, bool]] = {}
        decoder = msgspec.json.Decoder(Entry)
        for line in read_journal(path):
            self._texts.update(decoder.decode(line).texts)

    def find(self, key: str) -> tuple[str, bool] | None:
        """Return the text and whether it is whole, or None."""
        return self._texts.get(key)

    def keep(self, texts: dict[str, tuple[str, bool]]) -> None:
        """Write texts down; they are on disk when this returns."""
        if texts:
            self._texts.update(texts)
            append_line(self._path, msgspec.json.encode(Entry(texts)))


class Writer:
    """A responder that is asked for texts; what each is for, the prompt and `seed` decide the seed of sampling."""

    def __init__(self, responder: Responder, settings: AugmentSettings, seed: int, journal: Journal) -> None:
        self._responder = responder
        self._settings = settings
        self._seed = seed
        self._journal = journal

    async def write(self, prompts: Sequence[tuple[str, str]], attempt: int) -> list[str | Refusal]:
        """Return what the model answers to each (purpose, prompt), all asked at once, or why there is nothing to use.

        The same prompt for another purpose, such as a turn that many rows have, is asked anew with another seed.
        Raises `EngineError` when the engine fails; what was finished by then is kept.
        """
        results = await asyncio.gather(*(self._write(*each, attempt) for each in prompts), return_exceptions=True)
        written: list[str | Refusal] = []
        for result in results:
            if isinstance(result, EngineError):
                raise type(result)(
                    f"The engine failed while it wrote new texts: {result.message}",
                    "Run the same command again: finished texts are kept.",
                ) from result
            if isinstance(result, BaseException):
                raise result
            written.append(result)
        return written

    async def _write(self, purpose: str, prompt: str, attempt: int) -> str | Refusal:
        asked = (purpose, prompt, self._seed, attempt, self._settings.max_tokens, self._settings.temperature)
        key = hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
        found = self._journal.find(key)
        if found is None:
            sampling = Sampling(
                max_tokens=self._settings.max_tokens,
                temperature=self._settings.temperature,
                seed=int(key[:12], 16) % _MAX_SEED if self._settings.temperature else None,
            )
            try:
                messages = (Message("user", prompt),)
                trace = await answer(self._responder, Request(f"augment-{key[:16]}", messages, sampling=sampling))
            except RequestError as error:
                return Refusal("the model could not be asked", error.message)
            found = (trace.answer.content.strip(), trace.finish_reason != "length")
            self._journal.keep({key: found})
        text, whole = found
        if not text:
            return Refusal("empty")
        return text if whole else Refusal("cut off", f"longer than {self._settings.max_tokens} tokens")
