"""Engines that implement the protocol, and examples to ask them."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Candidate, Chunk, Example, Message, Model, Request, SilentProgress, Usage, Workspace
from vivace.errors import EngineDied, EngineError
from vivace.evaluate.answers import Answer

SETTINGS = EvaluateSettings(resamples=200, concurrency=4)
EOS = 0


class Characters:
    """A tokenizer with one token per character; each turn ends with token 0 and a newline, as ChatML does."""

    eos_ids = frozenset({EOS})

    def encode_chat(self, messages, *, add_generation_prompt=True, tools=()):
        ids = [code for turn in messages for code in (*map(ord, f"{turn.role}:{turn.content}"), EOS, ord("\n"))]
        return tuple(ids + ([*map(ord, "assistant:")] if add_generation_prompt else []))


class FakeEngine:
    """Answers by a function of the last turn, counts what it was asked, and dies after so many answers if told so."""

    def __init__(self, reply: Callable[[str], str], *, dies_after: int | None = None) -> None:
        self.reply = reply
        self.dies_after = dies_after
        self.asked: list[str] = []
        self.seen: list[Request] = []
        self.alive = True
        self.tokenizer = Characters()
        self.context_length = 1000

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if self.dies_after is not None and len(self.asked) >= self.dies_after:
            self.alive = False
            raise EngineDied("The engine's process ended with signal 9.")
        self.asked.append(request.id)
        self.seen.append(request)
        text = self.reply(request.messages[-1].content)
        if text == "!":
            raise EngineError("This one cannot be answered.")
        yield Chunk(text=text[:3])
        yield Chunk(text=text[3:], finish_reason="stop", usage=Usage(len(request.messages), len(text)))


class LikelyEngine(FakeEngine):
    """A fake that finds every token as likely as one in two."""

    async def token_logprobs(self, prompt_ids, answer_ids) -> list[float]:
        return [-0.6931471805599453] * len(answer_ids)


def opener(engine: FakeEngine):
    """Return what `evaluate_on` opens."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[FakeEngine]:
        yield engine

    return opened


def candidate(name: str = "fake", **chain) -> Candidate:
    return Candidate(name, "fake", Model(name, Path("/nowhere"), "echo", "none"), chain)


def example(number: int, question: str = "", reference: str = "", **metadata) -> Example:
    turns = (
        Message("user", question or f"question {number} " + "please " * (number % 7)),
        Message("assistant", reference or f"the answer to question {number} is " + "very long " * (number % 3)),
    )
    return Example(f"example-{number:03}", turns, "test", metadata=metadata)


def answered(number: int, said: str, reference: str, **fields) -> Answer:
    return Answer(f"example-{number:03}", (Message("user", "?"),), reference, said, **fields)


def workspace(folder: Path) -> Workspace:
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Workspace(folder / "out", folder / "scratch", SilentProgress())
