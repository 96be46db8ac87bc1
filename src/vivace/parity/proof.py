"""The proof: one hop after another is asked what the trainer read, and held against it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from vivace.chain import stack
from vivace.config.parity import ParitySettings
from vivace.domain import Model, Responder
from vivace.engines import Engine, open_engine
from vivace.engines.tokens import open_tokenizer
from vivace.models import ChatTokenizer
from vivace.parity import folder as folders
from vivace.parity import reading, scoring, server, weights
from vivace.parity.bounds import bound
from vivace.parity.difference import Speech, ids_finding, speech
from vivace.parity.findings import Finding
from vivace.parity.rendering import Ask, Door, Expected, Rendering, Trainer, Words, expect, render_stack, request_of
from vivace.parity.scoring import Asked, Heard

Serve = Callable[[Responder, Door], AbstractAsyncContextManager[str]]
"""Offers a responder over HTTP under the model name `parity`, and gives the address before `/chat/completions`."""
MODEL_NAME = "parity"
FLOAT32 = {"dtype": "float32"}


class Hop(Struct, frozen=True):
    """One place on the way from training to the user: a model on an engine behind its layers.

    `trimmed` says that its vocabulary was made smaller on purpose, `changed` that its weights were.
    """

    name: str
    engine: str
    model: Model
    chain: dict[str, Any] = field(default_factory=dict)
    trimmed: bool = False

    @property
    def folder(self) -> Path:
        """The folder its tokenizer comes from."""
        return tokenizer_folder(self.model)


class Proof:
    """What the trainer reads of a set of conversations, and the checks that hold a hop against it.

    `folder` is the one the trainer's tokenizer and template came from, `trainer` renders as training does, `system`
    is the system prompt of training.
    """

    def __init__(
        self, folder: Path, trainer: Trainer, system: str, examples: Sequence[Any], settings: ParitySettings
    ) -> None:
        self.settings = settings
        self.tokenizer = ChatTokenizer.open(folder)
        self.words = Words(folder)
        self.facts = folders.read_facts(folder)
        self.speech: Speech = speech(self.tokenizer, self.words)
        self.expected: list[Expected] = expect(self.tokenizer, system, trainer, examples)
        self.left_out = sum(not each.answer_ids for each in self.expected)
        room = self.tokenizer.context_length - settings.max_tokens
        self.asked: list[Asked] = scoring.asked_of(self.expected, settings.scored, room)

    @property
    def conversations(self) -> int:
        """How many conversations are compared, those cut short counted as well."""
        return len(self.expected)

    async def renderings(self, hop: Hop) -> list[Rendering]:
        """Return what reaches a hop's engine through its layers."""
        tokenizer = open_tokenizer(hop.model)
        asks = [self._ask(each, hop) for each in self.expected]
        return await render_stack(tokenizer, tokenizer.context_length, hop.chain, asks)

    async def check_tokens(self, hop: Hop) -> list[Finding]:
        """Return whether the same ids reach the hop's engine, and what its files say beside that."""
        rendered = await self.renderings(hop)
        theirs = Words(hop.folder)
        whole = [place for place, each in enumerate(self.expected) if each.ask.room is None]
        if hop.trimmed:
            whole = [place for place in whole if not self._outgrown(place, rendered[place])]
        cut = [place for place, each in enumerate(self.expected) if each.ask.room is not None]
        found = [self._ids(hop, "token ids", whole, rendered, theirs)]
        if cut and not hop.trimmed:
            found.append(self._ids(hop, "token ids, cut to fit", cut, rendered, theirs))
        found += folders.compare_facts(hop.name, self.facts, folders.read_facts(hop.folder), trimmed=hop.trimmed)
        found += folders.check_file(hop.name, hop.model, self.facts, theirs)
        if hop.model.format == "hf":
            found += weights.check_tied(hop.name, hop.model.path)
        if self.settings.second_reader:
            found += self._second(hop, rendered, theirs)
        return found

    def check_merge(self, hop: Hop, adapter: Model) -> list[Finding]:
        """Return whether a merged folder's weights are the base's with the adapter in them."""
        if adapter.base is None:
            return []
        return weights.check_merge(hop.name, adapter.path, adapter.base, hop.model.path)

    async def listen(self, hop: Hop, *, threads: int | None = None) -> list[Heard]:
        """Open a Hugging Face model or an adapter in fp32 and return what it makes of the scored conversations."""
        async with open_engine(hop.engine, hop.model, threads=threads, prefix_cache=False, options=FLOAT32) as engine:
            return await scoring.hear(engine, stack(engine, hop.chain), await self._own(hop), self.settings.max_tokens)

    def check_scores(self, hop: Hop, ours: Sequence[Heard], theirs: Sequence[Heard], dtype: str = "") -> list[Finding]:
        """Return how far log-probabilities moved, and whether greedy answers end where they should."""
        limit = bound(hop.model, dtype, self.settings.bounds)
        moved = scoring.distance_finding(hop.name, ours, theirs, limit, seed=self.settings.seed)
        ends = open_tokenizer(hop.model).eos_ids if hop.trimmed else self.tokenizer.eos_ids
        exact = limit is not None and limit <= scoring.EXACT
        words = Words(hop.folder)
        ended = scoring.ending_finding(hop.name, ours, theirs, frozenset(ends), words, exact=exact)
        return [*([moved] if moved else []), ended]

    async def check_engine(
        self, hop: Hop, ours: Sequence[Heard], serve: Serve | None, *, threads: int | None = None
    ) -> list[Finding]:
        """Open a candidate's engine once: score it, let it answer, and ask it again through a server."""
        asked = await self._own(hop)
        async with open_engine(hop.engine, hop.model, threads=threads, prefix_cache=False) as engine:
            heard = await scoring.hear(engine, stack(engine, hop.chain), asked, self.settings.max_tokens)
            dtype = _dtype(engine.facts) if hop.model.format in ("hf", "adapter") else ""
            found = [
                *self.check_scores(hop, ours, heard, dtype),
                scoring.usage_finding(hop.name, asked, heard),
            ]
            if serve is not None:
                found += await self._http(hop, engine, asked, heard, serve)
        return found

    def _ids(
        self, hop: Hop, check: str, places: Sequence[int], rendered: Sequence[Rendering], theirs: Words
    ) -> Finding:
        return ids_finding(
            hop.name,
            check,
            [self.expected[place] for place in places],
            [rendered[place] for place in places],
            self.speech,
            theirs,
            as_text=hop.trimmed,
        )

    def _ask(self, each: Expected, hop: Hop) -> Ask:
        """Cut conversations short only where tokens are counted alike."""
        return Ask(each.ask.example) if hop.trimmed else each.ask

    def _outgrown(self, place: int, rendered: Rendering) -> bool:
        """Say whether a conversation lost turns because a smaller vocabulary needs more tokens for it than fit."""
        return not rendered.refused and len(rendered.messages) < len(self.expected[place].ask.example.prompt)

    def _second(self, hop: Hop, rendered: Sequence[Rendering], theirs: Words) -> list[Finding]:
        """Hold other programs' tokenizers against what our layers let through."""
        asked = reading.reads([each.ask.example for each in self.expected], rendered)
        chosen = [place for place, each in enumerate(asked) if each is not None]
        wanted = [Expected(Ask(self.expected[place].ask.example), rendered[place]) for place in chosen]
        reads = [asked[place] for place in chosen]
        found, check = None, ""
        if hop.model.format == "hf":
            found, check = reading.read_with_transformers(hop.model.path, reads), "token ids, read by transformers"
        elif hop.model.format == "gguf" and (file := next(iter(sorted(hop.folder.glob("*.gguf"))), None)):
            chat = ChatTokenizer.open(hop.folder)
            found, check = reading.cut_with_llamacpp(file, chat, reads), "token ids, cut by llama.cpp"
        if found is None:
            return []
        own = Speech(theirs, self.speech.generation_prompt)
        return [ids_finding(hop.name, check, wanted, found, own, theirs)]

    async def _own(self, hop: Hop) -> list[Asked]:
        """Return the scored conversations in the hop's own ids: others only where the vocabulary was trimmed."""
        if not hop.trimmed:
            return self.asked
        tokenizer = open_tokenizer(hop.model)
        by_name = {each.ask.name: each.ask for each in self.expected}
        asks = [by_name[item.id] for item in self.asked]
        rendered = await render_stack(tokenizer, tokenizer.context_length, hop.chain, asks)
        return scoring.retold(self.asked, rendered, self.words, tokenizer)

    async def _http(
        self, hop: Hop, engine: Engine, asked: Sequence[Asked], heard: Sequence[Heard], serve: Serve
    ) -> list[Finding]:
        """Send everything over HTTP: first to a door that only notes what comes, then to the engine behind it."""
        door = Door(engine.name, engine.tokenizer, engine.context_length)
        responder = stack(door, hop.chain)  # type: ignore[arg-type]  # it needs no likelihoods and no process
        name = f"{hop.name} over HTTP"
        async with serve(responder, door) as url, server.ask_server(url, MODEL_NAME) as remote:
            rendered, counted = [], []
            for each in self.expected:
                door.seen.clear()
                ask = self._ask(each, hop)
                counted.append(await server.ask_once(remote, request_of(ask, engine.context_length)))
                rendered.append(door.seen[-1] if door.seen else Rendering(refused=counted[-1].refused or "no answer"))
            door.inside = engine
            answers = [
                Heard(item.id, (), *await scoring.listen(remote, item, self.settings.max_tokens)) for item in asked
            ]
        kept = [place for place, each in enumerate(counted) if not each.refused]
        found = [server.refusals(name, self.expected, counted)]
        if hop.trimmed:
            kept = [
                place
                for place in kept
                if self.expected[place].ask.room is None and not self._outgrown(place, rendered[place])
            ]
        ids = self._ids(hop, "token ids", kept, rendered, Words(hop.folder))
        found.append(_at(ids, name))
        found.append(scoring.answers_finding(name, heard, answers))
        told = [pair for pair in zip(asked, answers, strict=True) if pair[1].finish != "refused"]
        found.append(scoring.usage_finding(name, [item for item, _ in told], [each for _, each in told]))
        return found


def tokenizer_folder(model: Model) -> Path:
    """Return the folder that an engine takes a model's tokenizer from."""
    for place in (model.path, model.base):
        if place is not None and (place / "tokenizer.json").is_file():
            return place
    return model.path


def _dtype(facts: Mapping[str, Any]) -> str:
    """Return what transformers computes in, in our words."""
    return {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}.get(str(facts.get("dtype", "")), "")


def _at(finding: Finding, hop: str) -> Finding:
    from msgspec.structs import replace

    return replace(finding, hop=hop)
