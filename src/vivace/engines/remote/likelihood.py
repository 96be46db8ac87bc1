"""Likelihoods from servers that tell the log-probabilities of a prompt: vLLM's `prompt_logprobs`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from vivace.engines.remote.engine import RemoteEngine, encode
from vivace.errors import EngineError, RequestError, VivaceError


class LikelyEngine(RemoteEngine):
    """A provider that is sent token ids, so it must be the very model whose tokenizer is here."""

    async def try_out(self) -> None:
        """Ask for one likelihood; raises `EngineError` when the server tells none."""
        ids = self.tokenizer.encode("Good morning, how are you?")
        try:
            await self.token_choices(ids[:2], ids[2:4])
        except VivaceError as error:
            raise EngineError(
                f"The provider {self.model.name} tells no likelihoods: {error.message}",
                f"Set likelihood = false in [models.providers.{self.model.name}].",
            ) from None

    async def token_logprobs(self, prompt_ids: tuple[int, ...], answer_ids: tuple[int, ...]) -> list[float]:
        """Return the natural log-probability of each answer token given the prompt and the answer before it."""
        return (await self.token_choices(prompt_ids, answer_ids))[0]

    async def token_choices(
        self, prompt_ids: tuple[int, ...], answer_ids: tuple[int, ...]
    ) -> tuple[list[float], list[bool]]:
        """Return the log-probabilities and whether each token is the likeliest, an empty list where that is unknown."""
        if not prompt_ids or not answer_ids:
            raise RequestError("A likelihood needs a prompt and an answer of at least one token each.", "messages")
        ids = (*prompt_ids, *answer_ids)
        async with aclosing(self._persist(lambda until: self._score(ids, until))) as answers:
            rows = await anext(answers)
        told = [_of(row, token) for row, token in zip(rows[-len(answer_ids) :], answer_ids, strict=True)]
        if len(rows) != len(ids) or None in told:
            raise EngineError(f"The provider {self.model.name} told likelihoods of other tokens than it was asked for.")
        known = [each for each in told if each is not None]
        ranks = [rank for _, rank in known]
        return [logprob for logprob, _ in known], [] if None in ranks else [rank == 1 for rank in ranks]

    async def _score(self, ids: tuple[int, ...], until: float) -> AsyncGenerator[list[Any], None]:
        body = encode(
            {"model": self._settings.model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        )
        by = asyncio.get_running_loop().time() + self._settings.timeouts.first_token_s
        with self._breaker.attempt():
            reply = await self._open("/completions", body, by, until)
            try:
                parts = []
                while piece := await self._by(reply.piece(), by, until, "first_token_s"):
                    parts.append(piece)
            finally:
                reply.close()
            rows = _rows(b"".join(parts))
            if rows is None:
                raise self.teller.broken("tells no log-probabilities of a prompt", retry=False)
        yield rows


def _rows(body: bytes) -> list[Any] | None:
    try:
        rows = msgspec.json.decode(body)["choices"][0]["prompt_logprobs"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return rows if isinstance(rows, list) else None


def _of(row: Any, token: int) -> tuple[float, int | None] | None:
    """Return the log-probability and the rank of a token in a row {"id": {"logprob": …, "rank": …}}."""
    entry = row.get(str(token)) if isinstance(row, dict) else None
    logprob = entry.get("logprob") if isinstance(entry, dict) else None
    if not isinstance(logprob, (int, float)) or not logprob <= 0:
        return None
    rank = entry["rank"] if isinstance(entry, dict) and isinstance(entry.get("rank"), int) else None
    return float(logprob), rank
