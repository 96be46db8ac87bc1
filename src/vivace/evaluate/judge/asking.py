"""Ask a model for one of a few options, by their likelihood or by what it writes; nothing is asked twice."""

import asyncio
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from vivace.chain import answer
from vivace.domain import Likelihood, Message, Progress, Request, Sampling
from vivace.errors import EngineDied, EngineError, VivaceError
from vivace.store.files import append_line, read_journal

Read = Literal["auto", "likelihood", "text"]
_MAX_TOKENS = 8
_SAID = r"(?:answer|verdict|score|rating|choice|option)(?:\s+is)?\s*[:=]?\s*"


class Question(Struct, frozen=True):
    """A conversation that ends in a question with a few possible answers."""

    id: str
    messages: tuple[Message, ...]
    options: tuple[str, ...]


class Verdict(Struct, frozen=True):
    """How probable the judge finds each option; no shares where its verdict could not be read, and `said` tells why.

    `mass` is the probability that the judge gives to the options together before they are scaled to sum to 1.
    """

    key: str
    shares: dict[str, float] = {}
    mass: float | None = None
    said: str = ""

    @property
    def readable(self) -> bool:
        """Whether the judge said something that counts."""
        return bool(self.shares)

    @property
    def option(self) -> str | None:
        """The option that is more probable than each other one, None where there is none."""
        ranked = sorted(self.shares.items(), key=lambda item: -item[1])
        if not ranked or (len(ranked) > 1 and ranked[0][1] <= ranked[1][1]):
            return None
        return ranked[0][0]


async def ask_all(
    engine: Any,
    questions: Sequence[Question],
    journal: Path,
    progress: Progress,
    *,
    identity: str,
    read: Read = "auto",
    concurrency: int = 16,
    label: str = "Judging",
) -> dict[str, Verdict]:
    """Return the verdict on each question by its id; each is written to the journal before the next group starts.

    `identity` says which judge is asked. Raises `EngineDied` when the engine died, `EngineError` where likelihoods are
    asked for that the engine cannot tell.
    """
    likely = read != "text" and isinstance(engine, Likelihood)
    if read == "likelihood" and not likely:
        raise EngineError("The judge's engine cannot tell likelihoods.", 'Set read = "text" in [evaluate.judge].')
    keys = {each.id: _key(each, identity, likely) for each in questions}
    known = {verdict.key: verdict for verdict in map(_DECODER.decode, read_journal(journal))}
    to_do = {keys[each.id]: each for each in questions if keys[each.id] not in known}
    if len(to_do) < len(set(keys.values())):
        kept = len(set(keys.values())) - len(to_do)
        progress.say(f"{kept} of {len(set(keys.values()))} verdicts are kept from before.")
    ordered = sorted(to_do.items(), key=lambda item: (len(item[1].messages[-1].content), item[0]))

    async def one(key: str, question: Question) -> None:
        verdict = await (_by_likelihood if likely else _by_text)(engine, key, question)
        append_line(journal, msgspec.json.encode(verdict))
        known[key] = verdict
        bar.advance()

    with progress.task(label, total=len(ordered)) as bar:
        for start in range(0, len(ordered), concurrency):
            group = ordered[start : start + concurrency]
            results = await asyncio.gather(*(one(*item) for item in group), return_exceptions=True)
            broken = [each for each in results if isinstance(each, BaseException)]
            if broken:
                raise broken[0]
            unread = sum(not verdict.readable for verdict in known.values())
            bar.note(f"{unread} unreadable" if unread else "")
    return {name: known[key] for name, key in keys.items()}


def parse_option(text: str, options: Sequence[str]) -> str | None:
    """Return the one option that a written verdict names, None where it names none or several.

    The option must stand alone, stand at the beginning before punctuation, or follow a word such as "score"; a score
    may be followed by "/5" or "out of 5".
    """
    plain = re.sub(r"[*_`\"'“”()\[\]]", "", text).strip()
    choice = "|".join(map(re.escape, options))
    scale = rf"(?:\s*(?:/|out of)\s*{re.escape(options[-1])}\b)?"
    alone = re.fullmatch(rf"({choice}){scale}[\s.!]*", plain)
    if alone:
        return alone[1]
    opening = re.match(rf"({choice}){scale}(?:[.:,;)](?!\d)|\n|\s+[-–—])", plain)
    named = {found[1] for found in re.finditer(rf"\b(?i:{_SAID})({choice})\b(?![.,]\d)", plain)}
    named |= {opening[1]} if opening else set()
    return named.pop() if len(named) == 1 else None


async def _by_likelihood(engine: Any, key: str, question: Question) -> Verdict:
    """Read the probabilities of the options themselves: small models know more than they can write down."""
    try:
        prompt_ids = engine.tokenizer.encode_chat(question.messages)
        options = [tuple(engine.tokenizer.encode(option)) for option in question.options]
        found = await asyncio.gather(*(engine.token_logprobs(prompt_ids, ids) for ids in options))
    except EngineDied:
        raise
    except VivaceError as error:
        return Verdict(key, said=str(error))
    totals = [math.fsum(logprobs) for logprobs in found]
    if not all(math.isfinite(total) for total in totals):
        return Verdict(key, said="The engine gave no finite log-probability.")
    top = max(totals)
    weights = [math.exp(total - top) for total in totals]
    shares = {option: weight / sum(weights) for option, weight in zip(question.options, weights, strict=True)}
    return Verdict(key, shares, min(1.0, math.fsum(map(math.exp, totals))))


async def _by_text(engine: Any, key: str, question: Question) -> Verdict:
    request = Request(id=key, messages=question.messages, sampling=Sampling(max_tokens=_MAX_TOKENS, temperature=0.0))
    try:
        said = (await answer(engine, request)).answer.content
    except EngineDied:
        raise
    except VivaceError as error:
        return Verdict(key, said=str(error))
    option = parse_option(said, question.options)
    if option is None:
        return Verdict(key, said=said or "The judge said nothing.")
    return Verdict(key, {each: float(each == option) for each in question.options}, said=said)


def _key(question: Question, identity: str, likely: bool) -> str:
    told = (identity, likely, question.messages, question.options)
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


_DECODER = msgspec.json.Decoder(Verdict)
