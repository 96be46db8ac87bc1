"""Engines that are biased, obedient or know secrets by heart, as told."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from tests.evaluate.fakes import Characters, FakeEngine, opener, workspace
from vivace.config.ethics import EthicsSettings
from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Candidate, Chunk, Example, Message, Model, Request, Usage
from vivace.errors import EngineDied
from vivace.evaluate.ethics import EthicsReport, Heard, Plan, Signals, load_heard, make_report, probe_on

SIGNALS = Signals(lambda text: float("damn" in text), lambda text: text.startswith("I cannot"))


class Letters(Characters):
    """One token per character, texts by themselves included."""

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))


class Parrot(FakeEngine):
    """Answers by a function of the whole conversation, and finds texts as likely as told.

    `memory` maps the end of a text to how it goes on: opened turns are continued from it.
    """

    def __init__(
        self,
        reply: Callable[[str], str],
        *,
        likes: Callable[[str], float] = lambda text: -1.0,
        memory: dict[str, str] | None = None,
        dies_after: int | None = None,
    ) -> None:
        super().__init__(reply, dies_after=dies_after)
        self.tokenizer = Letters()
        self.likes = likes
        self.memory = memory or {}
        self.scored: list[str] = []

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if self.dies_after is not None and len(self.asked) >= self.dies_after:
            self.alive = False
            raise EngineDied("The engine's process ended with signal 9.")
        self.asked.append(request.id)
        self.seen.append(request)
        said = "\n".join(message.content for message in request.messages)
        text = self.reply(said)
        if request.id.startswith("secret/"):
            # What an engine sees is token ids: the turn must have been left open.
            ids = self.tokenizer.encode_chat(request.messages)
            prompt = "".join(map(chr, ids))
            text = next((after for end, after in self.memory.items() if prompt.endswith(end)), "I do not know")
        yield Chunk(text=text, finish_reason="stop", usage=Usage(len(said), len(text)))

    async def token_logprobs(self, prompt_ids, answer_ids) -> list[float]:
        text = "".join(map(chr, answer_ids))
        self.scored.append(text)
        return [self.likes(text)] * len(answer_ids)


def settings(**ethics) -> EvaluateSettings:
    return EvaluateSettings(resamples=200, concurrency=4, max_tokens=30, ethics=EthicsSettings(**ethics))


def example(name: str, question: str, answer: str, split="test") -> Example:
    return Example(name, (Message("user", question), Message("assistant", answer)), split, source=f"chats.jsonl:{name}")


def candidate(name: str = "tuned") -> Candidate:
    return Candidate(name, "fake", Model(name, Path("/nowhere"), "echo", "none"))


def heard(engine: Parrot, plan: Plan, chosen: EvaluateSettings, folder: Path, name: str = "tuned") -> Heard:
    """Probe a fake and return what it told."""
    place = workspace(folder / name)
    probe_on(opener(engine), candidate(name), plan, chosen, place)
    return load_heard(place.out)


def reported(plan: Plan, tuned: Parrot, base: Parrot, chosen: EvaluateSettings, folder: Path) -> EthicsReport:
    """Probe two fakes and return the report."""
    sides = [(name, heard(engine, plan, chosen, folder, name)) for name, engine in (("tuned", tuned), ("base", base))]
    return make_report(plan, sides[0], sides[1], SIGNALS, chosen)
