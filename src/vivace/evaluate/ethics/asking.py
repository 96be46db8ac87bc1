"""Ask a candidate all that is to be asked, each group of questions once: what is in the journal is not asked again."""

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import Any, cast

import msgspec
from msgspec import Struct

from vivace.chain import answer, stack
from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Candidate, Likelihood, Message, Request, Responder, Sampling, Workspace
from vivace.errors import EngineDied, VivaceError
from vivace.evaluate.answering import Overhearing
from vivace.store.files import append_line, read_journal

_UNLIKELY = "The engine cannot tell likelihoods."


class Question(Struct, frozen=True):
    """A conversation to answer; `opened` is one whose last turn goes on where it stops, past all layers."""

    id: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    max_tokens: int | None = None
    opened: bool = False


class Text(Struct, frozen=True):
    """A text whose likelihood is asked, after a conversation whose last turn stops there, or after nothing."""

    id: str
    text: str
    after: tuple[Message, ...] = ()


class Said(Struct, frozen=True):
    """What came back for a question."""

    id: str
    text: str
    error: str = ""


class Likely(Struct, frozen=True):
    """The log-probability of a text, in nats, and its tokens."""

    id: str
    logprob: float = 0.0
    tokens: int = 0
    error: str = ""


class Told(Struct, frozen=True):
    """A finished group: one line of the journal."""

    key: str
    said: tuple[Said, ...] = ()
    likely: tuple[Likely, ...] = ()


class Heard(Struct, frozen=True):
    """Everything a candidate told, by id."""

    said: dict[str, Said]
    likely: dict[str, Likely]


class OpenEnded:
    """A tokenizer that leaves the last turn open, so that an answer goes on where it stops.

    Engines render conversations with the tokenizer they hold; this one stands in for it while texts are continued.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.inner = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode_chat(self, messages: Sequence[Message], **_options: Any) -> tuple[int, ...]:
        """Return the ids of a conversation up to where its last turn stops."""
        return open_ids(self.inner, messages)


def open_ids(tokenizer: Any, messages: Sequence[Message]) -> tuple[int, ...]:
    """Return the ids of a conversation up to where its last turn stops; without one, what begins a text.

    A user's turn is cut before the token that ends it; a template that ends turns by text alone leaves that in.
    """
    if not messages:
        return (min(tokenizer.eos_ids),)
    last = messages[-1]
    if last.role == "assistant":
        begun: tuple[int, ...] = tokenizer.encode_chat(messages[:-1])
        return (*begun, *tokenizer.encode(last.content))
    whole: tuple[int, ...] = tokenizer.encode_chat(messages, add_generation_prompt=False)
    ends = [place for place, token in enumerate(whole) if token in tokenizer.eos_ids]
    return whole[: ends[-1]] if ends else whole


def ask(
    opened: Callable[[], AbstractAsyncContextManager[Any]],
    candidate: Candidate,
    questions: Sequence[Question],
    texts: Sequence[Text],
    settings: EvaluateSettings,
    workspace: Workspace,
) -> Heard:
    """Ask everything and return what was told; an engine with nothing left to do is not opened.

    Raises `EngineDied` when the engine has died; what is in the journal by then need not be asked again.
    """
    journal = workspace.scratch / "told.jsonl"
    decoder = msgspec.json.Decoder(Told)
    done = {told.key: told for told in map(decoder.decode, read_journal(journal))}
    groups: list[tuple[str, Sequence[Question | Text]]] = [
        (_key(candidate, group, settings), group)
        for asked in (questions, texts)
        for group in _grouped(asked, settings.concurrency)
    ]
    to_do = [(key, group) for key, group in groups if key not in done]
    if len(to_do) < len(groups):
        kept = sum(len(group) for key, group in groups if key in done)
        workspace.progress.say(f"{kept} of {len(questions) + len(texts)} questions are answered already.")

    async def work() -> None:
        async with opened() as engine:
            listener = Overhearing(engine)
            desk = _Desk(listener, stack(cast(Any, listener), candidate.chain), settings)
            with workspace.progress.task("Probing", total=sum(len(group) for _key, group in to_do)) as bar:
                for key, group in to_do:
                    told = await desk.group(key, group)
                    append_line(journal, msgspec.json.encode(told))
                    done[key] = told
                    bar.advance(len(group))

    if to_do:
        asyncio.run(work())
    told = [done[key] for key, _group in groups]
    return Heard(
        {each.id: each for group in told for each in group.said},
        {each.id: each for group in told for each in group.likely},
    )


class _Desk:
    """Where questions are put to an engine and to the layers around it."""

    def __init__(self, listener: Overhearing, responder: Responder, settings: EvaluateSettings) -> None:
        self.listener = listener
        self.engine: Any = listener.engine
        self.responder = responder
        self.settings = settings

    async def group(self, key: str, group: Sequence[Question | Text]) -> Told:
        """Ask a group at once and wait for all of it; raises `EngineDied` when the engine died under it."""
        asked = (self._said(each) if isinstance(each, Question) else self._likely(each) for each in group)
        held = self.engine.tokenizer
        if any(isinstance(each, Question) and each.opened for each in group):
            self.engine.tokenizer = OpenEnded(held)
        try:
            results = await asyncio.gather(*asked, return_exceptions=True)
        finally:
            self.engine.tokenizer = held
        broken = next((each for each in results if isinstance(each, BaseException)), None)
        if broken is not None and not isinstance(broken, EngineDied):
            raise broken
        if broken is not None or self.listener.death or not self.engine.alive:
            raise EngineDied(
                f"The engine died while it was probed: {broken or self.listener.death or 'it said nothing.'}",
                "Run the same command again: finished answers are kept.",
            )
        said = tuple(each for each in results if isinstance(each, Said))
        return Told(key, said, tuple(each for each in results if isinstance(each, Likely)))

    async def _said(self, question: Question) -> Said:
        request = Request(
            question.id,
            question.messages,
            sampling=Sampling(max_tokens=question.max_tokens or self.settings.max_tokens),
            tools=question.tools,
        )
        responder: Responder = self.listener if question.opened else self.responder
        try:
            trace = await answer(responder, request, monotonic)
        except EngineDied:
            raise
        except VivaceError as error:
            return Said(question.id, "", str(error))
        return Said(question.id, trace.answer.content, trace.error or "")

    async def _likely(self, text: Text) -> Likely:
        engine = self.engine
        if not isinstance(engine, Likelihood):
            return Likely(text.id, error=_UNLIKELY)
        try:
            before, after = text_ids(self.engine.tokenizer, text)
            logprobs = await engine.token_logprobs(before, after)
        except EngineDied:
            raise
        except VivaceError as error:
            return Likely(text.id, error=str(error))
        total = math.fsum(logprobs)
        if len(logprobs) != len(after) or not math.isfinite(total):
            return Likely(text.id, error=f"The engine gave {len(logprobs)} log-probabilities, sum {total}.")
        return Likely(text.id, total, len(logprobs))


def text_ids(tokenizer: Any, text: Text) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids before a text and its own, cut where the model would cut the whole if that can be."""
    before = open_ids(tokenizer, text.after)
    said = text.after[-1].content if text.after else ""
    alone: tuple[int, ...] = tokenizer.encode(text.text)
    together, head = tokenizer.encode(said + text.text), tokenizer.encode(said)
    return before, together[len(head) :] if head and together[: len(head)] == head else alone


def _grouped(asked: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Return groups that depend on nothing but what is asked: alike in length and kind."""
    ordered = sorted(asked, key=lambda each: (getattr(each, "opened", False), _length(each), each.id))
    cuts = [at for at in range(1, len(ordered)) if _opened(ordered[at]) != _opened(ordered[at - 1])]
    groups: list[Sequence[Any]] = []
    for start, end in zip([0, *cuts], [*cuts, len(ordered)], strict=True):
        groups += [ordered[at : min(at + size, end)] for at in range(start, end, size)]
    return groups


def _opened(asked: Question | Text) -> bool:
    return isinstance(asked, Question) and asked.opened


def _length(asked: Question | Text) -> int:
    messages = asked.messages if isinstance(asked, Question) else asked.after
    return sum(len(message.content) for message in messages) + len(getattr(asked, "text", ""))


def _key(candidate: Candidate, group: Sequence[Question | Text], settings: EvaluateSettings) -> str:
    model = candidate.model
    identity = (candidate.engine, model.name, model.weights, model.artifact_id, candidate.chain, settings.max_tokens)
    asked = (identity, type(group[0]).__name__, group)
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()
