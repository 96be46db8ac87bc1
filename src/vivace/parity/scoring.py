"""How likely each hop finds the reference answers, and what it answers by itself."""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from vivace import stats
from vivace.domain import Likelihood, Message, Request, Responder, Sampling, Score
from vivace.engines import Tokenizer
from vivace.errors import RequestError
from vivace.parity.bounds import stretched
from vivace.parity.findings import Finding, Place
from vivace.parity.rendering import Expected, Rendering, Words

METRIC = "logprob_distance"
_RESAMPLES = 2000
_WEIGHTS_HINT = (
    "Other weights than the trained ones are here, or they were rounded twice: make the merge and the export again, or "
    "state another bound in [parity] bounds."
)
EXACT = 0.05
"""Bounds up to this one keep greedy answers the same, so that one that ends earlier ended wrongly."""


class Asked(Struct, frozen=True):
    """A conversation to score: what the trainer reads, and the turns that a request holds."""

    id: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


class Heard(Struct, frozen=True):
    """What a hop made of it; `logprobs` is empty for a hop that tells none."""

    id: str
    logprobs: tuple[float, ...]
    token_ids: tuple[int, ...]
    text: str
    finish: str
    prompt_tokens: int | None


def asked_of(expected: Iterable[Expected], count: int, room: int) -> list[Asked]:
    """Return the first conversations whose answer was learned and that fit into `room` tokens with it."""
    chosen = [
        Asked(
            each.ask.example.id,
            each.ask.example.prompt,
            tuple(each.ask.example.tools),
            each.rendering.ids,
            each.answer_ids,
        )
        for each in expected
        if each.answer_ids and each.ask.room is None and len(each.rendering.ids) + len(each.answer_ids) <= room
    ]
    return chosen[:count]


async def hear(engine: Likelihood, responder: Responder, asked: Sequence[Asked], max_tokens: int) -> list[Heard]:
    """Score the reference answers after the trainer's own ids, and answer each conversation greedily through the stack.

    One at a time: nothing else is in the batch.
    """
    heard = []
    for item in asked:
        logprobs = await engine.token_logprobs(item.prompt_ids, item.answer_ids)
        said = await listen(responder, item, max_tokens)
        heard.append(Heard(item.id, tuple(logprobs), *said))
    return heard


async def listen(responder: Responder, item: Asked, max_tokens: int) -> tuple[tuple[int, ...], str, str, int | None]:
    """Return a greedy answer's ids, text and end, and how many tokens the prompt had; a refusal is told as text."""
    request = Request(item.id, item.messages, sampling=Sampling(max_tokens=max_tokens), tools=item.tools)
    ids: list[int] = []
    text, finish, prompt_tokens = "", "", None
    try:
        async with aclosing(responder(request)) as chunks:
            async for chunk in chunks:
                ids += chunk.token_ids
                text += chunk.text
                finish = chunk.finish_reason or finish
                prompt_tokens = chunk.usage.prompt_tokens if chunk.usage else prompt_tokens
    except RequestError as error:
        return (), error.message, "refused", None
    return tuple(ids), text, finish, prompt_tokens


def distance(ours: Sequence[Heard], theirs: Sequence[Heard], seed: int = 0) -> Score:
    """Return the mean distance of a token's log-probability in nats, with the bootstrap interval over answers."""
    rows = []
    for one, other in zip(ours, theirs, strict=True):
        gaps = np.abs(np.subtract(one.logprobs, other.logprobs))
        rows.append((float(gaps.sum()), float(len(gaps))))
    sums = np.asarray(rows)
    interval = stats.bootstrap_rows(sums, stats.mean_of_rows, resamples=_RESAMPLES, seed=seed)
    value = float(sums[:, 0].sum() / max(1.0, sums[:, 1].sum()))
    return Score(METRIC, value, interval, len(rows), "nats", higher_is_better=False)


def distance_finding(
    hop: str, ours: Sequence[Heard], theirs: Sequence[Heard], limit: float | None, *, seed: int = 0
) -> Finding | None:
    """Return whether log-probabilities moved from `ours` within the bound; None where either hop tells none."""
    if not ours or not all(each.logprobs for each in (*ours, *theirs)):
        return None
    broken = [each.id for each in (*ours, *theirs) if not np.isfinite(each.logprobs).all()]
    if broken:
        cause, found = "some are not numbers", f"in {broken[0]}"
        return Finding(hop, "log-probabilities", False, "numbers", found, cause, _WEIGHTS_HINT, of=len(ours))
    figure = distance(ours, theirs, seed)
    told = f"{figure.value:.2g} nats a token [{figure.interval.low:.2g}, {figure.interval.high:.2g}]"
    if limit is None:
        return Finding(hop, "log-probabilities", True, found=f"{told}; no bound is stated", figure=figure)
    said = [value for each in ours for value in each.logprobs]
    limit = stretched(limit, -sum(said) / max(1, len(said)))
    if figure.value <= limit:
        return Finding(hop, "log-probabilities", True, found=f"{told}, bound {limit:.2g}", figure=figure)
    return Finding(
        hop,
        "log-probabilities",
        False,
        f"at most {limit:.2g} nats a token",
        told,
        f"moved by more than these weights explain ({limit:.2g})",
        _WEIGHTS_HINT,
        of=len(ours),
        figure=figure,
    )


def ending_finding(
    hop: str,
    ours: Sequence[Heard],
    theirs: Sequence[Heard],
    ends: frozenset[int],
    words: Words,
    *,
    exact: bool,
) -> Finding:
    """Return whether greedy answers end where they should.

    None may go on after a token that ends a turn for the trainer, or past the place where the same answer ended
    before. In an exact format none may end earlier either.
    """
    wrong: list[tuple[str, Place]] = []
    for one, other in zip(ours, theirs, strict=True):
        past = next((place for place, number in enumerate(other.token_ids) if number in ends), None)
        before = other.token_ids[: len(one.token_ids)]
        if past is not None:
            place = Place(other.id, past, "the end of the answer", words.around(other.token_ids, past))
            wrong.append((f"goes on after {words.piece(other.token_ids[past])}", place))
        elif one.finish == "stop" and before == one.token_ids and len(other.token_ids) > len(before):
            at = len(before)
            place = Place(other.id, at, "the end of the answer", words.around(other.token_ids, at))
            wrong.append(("goes on where the trained model ends", place))
        elif exact and other.finish == "stop" and _is_beginning(other.token_ids, one.token_ids):
            at = len(other.token_ids)
            place = Place(other.id, at, words.around(one.token_ids, at), "the end of the answer")
            wrong.append(("ends where the trained model goes on", place))
    same = sum(one.token_ids == other.token_ids for one, other in zip(ours, theirs, strict=True))
    told = f"{same} of {len(theirs)} word for word the trained model's"
    if not wrong:
        return Finding(hop, "greedy answers end", True, found=told, of=len(theirs))
    hint = "Set eos_token_id in generation_config.json to the trainer's, and the same stop tokens in the server."
    cause, place = wrong[0]
    return Finding(
        hop, "greedy answers end", False, cause=cause, hint=hint, differing=len(wrong), of=len(theirs), place=place
    )


def _is_beginning(ids: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    return len(ids) < len(whole) and whole[: len(ids)] == ids


def usage_finding(hop: str, asked: Sequence[Asked], heard: Sequence[Heard]) -> Finding:
    """Return whether the hop counts as many prompt tokens as were rendered for it."""
    pairs = list(zip(asked, heard, strict=True))
    wrong = [(item, each) for item, each in pairs if each.prompt_tokens != len(item.prompt_ids)]
    if not wrong:
        return Finding(hop, "prompt tokens", True, found="as many as the trainer reads", of=len(pairs))
    item, each = wrong[0]
    found = f"{each.prompt_tokens} tokens" if each.prompt_tokens is not None else each.text or "no count"
    place = Place(item.id, 0, f"{len(item.prompt_ids)} tokens", found)
    hint = "The stack renders otherwise than it says: see the token ids of this hop."
    return Finding(
        hop, "prompt tokens", False, cause="the engine was fed another prompt", hint=hint, differing=len(wrong),
        of=len(pairs), place=place,
    )  # fmt: skip


def answers_finding(hop: str, ours: Sequence[Heard], theirs: Sequence[Heard]) -> Finding:
    """Return whether a server answers greedily as the engine behind it does, word for word."""
    pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if other.finish != "refused"]
    wrong = [(one, other) for one, other in pairs if (one.text, one.finish) != (other.text, other.finish)]
    if not wrong:
        return Finding(hop, "greedy answers", True, found=f"{len(pairs)} word for word the engine's", of=len(pairs))
    one, other = wrong[0]
    place = Place(one.id, 0, f"{one.text} [{one.finish}]", f"{other.text} [{other.finish}]")
    hint = "Compare sampling (temperature 0), stop tokens, the weights and the prompt of the server with the release's."
    return Finding(
        hop, "greedy answers", False, cause="the server answers otherwise than the engine", hint=hint,
        differing=len(wrong), of=len(pairs), place=place,
    )  # fmt: skip


def retold(asked: Sequence[Asked], rendered: Sequence[Rendering], text: Words, tokenizer: Tokenizer) -> list[Asked]:
    """Return the conversations in the ids of another vocabulary: prompts as rendered there, answers cut anew."""
    made = []
    for item, rendering in zip(asked, rendered, strict=True):
        answer = tokenizer.encode(text.text(item.answer_ids))
        made.append(msgspec.structs.replace(item, prompt_ids=rendering.ids, answer_ids=answer))
    return made
