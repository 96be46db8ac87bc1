"""The augment stage: a dataset in, the same dataset with synthetic training rows out."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
from msgspec import Struct, field

from vivace.config.data import DataSettings
from vivace.data.augment.acceptance import Refusal, TextEmbedder
from vivace.data.augment.catalog import Catalog, read_catalog
from vivace.data.augment.guard import Guard
from vivace.data.augment.rewriting import Draft, Rewriting
from vivace.data.augment.writer import Journal, Writer
from vivace.domain import Responder, Workspace
from vivace.errors import ConfigError, DataError
from vivace.store.files import disk_errors, write_atomic

BATCH_ROWS = 16  # an interruption costs at most what so many rows take
MIN_YIELD = 0.05  # a model of which less is usable after so many drafts would write for hours for nothing
MIN_TRIED = 192
MAX_SAMPLES = 5
MAX_SAMPLE_CHARS = 600

# Name, and how often it may be tried on one origin: a translator says the same each time. The dearest come first: what
# they leave of the share falls to the cheaper ones.
METHODS = {"from_documents": 2, "paraphrase": 2, "back_translation": 1, "noise": 3}
_ASK_A_MODEL = frozenset({"from_documents", "paraphrase"})
_NEED_EMBEDDER = frozenset({"paraphrase", "back_translation"})

_ENCODER = msgspec.json.Encoder(order="deterministic")


class Drafting(Protocol):
    """One way to make new rows, from origins numbered in the order they are drawn."""

    def __len__(self) -> int:
        """Return how many origins there are."""
        ...

    async def drafts(self, places: Sequence[int], attempt: int) -> list[Draft]:
        """Return a draft for each of these origins."""
        ...


class Tally(Struct):
    """What became of one method's drafts; `kept` counts customer's turns that stayed as they were, by reason."""

    accepted: int = 0
    gave_up: bool = False
    refused: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, Any]] = field(default_factory=list)


async def augment(
    dataset: Path,
    settings: DataSettings,
    workspace: Workspace,
    *,
    responder: Responder | None = None,
    embedder: TextEmbedder | None = None,
    system: str = "",
) -> dict[str, Any]:
    """Write the dataset with synthetic training rows to `workspace.out`, and return what is worth telling.

    The rows of `dataset` come first, byte by byte as they were; validation and test rows are never an origin. Beside
    them stand augment.json (counts, samples) and refused.jsonl (every refused draft); other files are copied. Texts of
    models are kept in `workspace.scratch`, so that a run that was interrupted goes on. `responder` writes; `system`
    is the agent's instruction. Raises `ConfigError` when a method misses what it needs.
    """
    _check(settings, responder, embedder)
    catalog, guard = read_catalog(dataset / "examples.jsonl", settings)
    room = max(0, most_synthetic(len(catalog), settings.augment.share) - catalog.synthetic)
    methods = _open(dataset, settings, workspace, catalog, responder, embedder, system)
    _copy(dataset, workspace.out)
    tallies: dict[str, Tally] = {}
    with ExitStack() as stack:
        stack.enter_context(disk_errors(workspace.out))
        rows = stack.enter_context(open(workspace.out / "examples.jsonl", "ab"))
        refused = stack.enter_context(open(workspace.out / "refused.jsonl", "wb"))
        bar = stack.enter_context(workspace.progress.task("Augmenting", total=room if methods else 0))
        left = room
        for number, (name, method) in enumerate(methods.items()):
            run = _Run(name, method, guard, rows, refused, Tally())
            tallies[name] = run.tally
            async for accepted, tried in run.make(left // (len(methods) - number)):
                left -= accepted
                bar.advance(accepted)
                bar.note(f"{name}: {run.tally.accepted} of {tried}")
            if run.tally.gave_up:
                workspace.progress.say(
                    f"{name} was given up: {run.tally.accepted} of its first {tried} conversations could be used "
                    "(augment.json says why)."
                )
    return _report(workspace.out, settings, catalog, room, tallies)


def most_synthetic(originals: int, share: float) -> int:
    """Return how many synthetic rows may join so many others for them to be at most `share` of all."""
    exact = Fraction(str(share))
    return int(exact * originals / (1 - exact))


class _Run(Struct):
    """One method at work."""

    name: str
    method: Drafting
    guard: Guard
    rows: BinaryIO
    refused: BinaryIO
    tally: Tally

    async def make(self, room: int) -> AsyncGenerator[tuple[int, int], None]:
        """Write at most `room` rows; yield after each batch how many it gave, and how many drafts there were so far."""
        tried = 0
        for attempt in range(1, METHODS[self.name] + 1):
            place = 0
            while place < len(self.method) and self.tally.accepted < room:
                size = min(BATCH_ROWS, room - self.tally.accepted, len(self.method) - place)
                drafts = await self.method.drafts(range(place, place + size), attempt)
                before = self.tally.accepted
                for draft in drafts:
                    self._settle(draft)
                place += size
                tried += size
                yield self.tally.accepted - before, tried
                if tried >= MIN_TRIED and self.tally.accepted < MIN_YIELD * tried:
                    self.tally.gave_up = True
                    return
                await asyncio.sleep(0)  # where Ctrl-C is heard

    def _settle(self, draft: Draft) -> None:
        refusal = draft.refusal
        if draft.example is not None:
            texts = [after for _before, after in draft.changes]
            if self.name == "from_documents":
                texts = [message.content for message in draft.example.messages]
            refusal = self.guard.refuse(draft.example.messages, texts)
        if refusal is not None or draft.example is None:
            self._refuse(draft, refusal or Refusal("empty"))
            return
        self.rows.write(_ENCODER.encode(draft.example) + b"\n")
        self.tally.accepted += 1
        self.tally.kept.update(draft.kept)
        if len(self.tally.samples) < MAX_SAMPLES:
            self.tally.samples.append({"id": draft.id, "origin": draft.origin, "changes": _shown(draft.changes)})

    def _refuse(self, draft: Draft, refusal: Refusal) -> None:
        self.tally.refused[refusal.reason] += 1
        told = {"method": self.name, "id": draft.id, "origin": draft.origin}
        told |= {"reason": refusal.reason, "detail": refusal.detail}
        changes = [{"before": before, "after": after} for before, after in draft.changes]
        self.refused.write(_ENCODER.encode({**told, "changes": changes}) + b"\n")


def _check(settings: DataSettings, responder: Responder | None, embedder: TextEmbedder | None) -> None:
    for name in settings.augment.methods:
        if name in _ASK_A_MODEL and responder is None:
            raise ConfigError(
                f"augment.methods names {name!r}, but there is no model to write with.",
                "Name one in augment.model, or leave the method out.",
            )
        if name in _NEED_EMBEDDER and embedder is None:
            raise ConfigError(
                f"augment.methods names {name!r}, but there is no embedder to tell whether the meaning is kept.",
                "Name one in label.embedder, or leave the method out.",
            )


def _open(
    dataset: Path,
    settings: DataSettings,
    workspace: Workspace,
    catalog: Catalog,
    responder: Responder | None,
    embedder: TextEmbedder | None,
    system: str,
) -> dict[str, Drafting]:
    """Return the methods that the settings name, in the order of `METHODS`."""
    from vivace.data.augment import back_translation, from_documents, noise, paraphrase

    journal = Journal(workspace.scratch / "texts.jsonl")
    writer = None if responder is None else Writer(responder, settings.augment, settings.seed, journal)
    methods: dict[str, Drafting] = {}
    for name in METHODS:
        if name not in settings.augment.methods:
            continue
        if name == "noise":
            methods[name] = Rewriting(name, catalog, settings, noise.noise(settings.seed))
        elif name == "back_translation" and embedder is not None:
            propose = back_translation.back_translation(journal, writer, settings, embedder)
            words = back_translation.MIN_WORDS
            methods[name] = Rewriting(name, catalog, settings, propose, min_words=words, embedder=embedder)
        elif writer is not None and name == "paraphrase":
            propose = paraphrase.paraphrase(writer)
            words = paraphrase.MIN_WORDS
            methods[name] = Rewriting(name, catalog, settings, propose, min_words=words, embedder=embedder)
        elif writer is not None:
            documents = dataset / "documents.jsonl"
            methods[name] = from_documents.FromDocuments(documents, settings, writer, system)
    return methods


def _copy(dataset: Path, out: Path) -> None:
    """Copy the files of a dataset, and end its rows with a newline."""
    with disk_errors(out):
        shutil.copytree(dataset, out, dirs_exist_ok=True, copy_function=shutil.copyfile)
    content = (out / "examples.jsonl").stat().st_size
    if content:
        with open(out / "examples.jsonl", "rb") as file:
            file.seek(content - 1)
            if file.read(1) != b"\n":
                raise DataError(
                    f"{dataset / 'examples.jsonl'} does not end with a whole line.", "Run `vivace data` again."
                )


def _report(
    out: Path, settings: DataSettings, catalog: Catalog, room: int, tallies: dict[str, Tally]
) -> dict[str, Any]:
    made = catalog.synthetic + sum(tally.accepted for tally in tallies.values())
    facts = {
        "originals": len(catalog),
        "synthetic": made,
        "share": round(made / (len(catalog) + made), 4) if made else 0.0,
        "max_synthetic": room,
        "gave_up": [name for name, tally in tallies.items() if tally.gave_up],
        "accepted": {name: tally.accepted for name, tally in tallies.items()},
        "refused": {name: dict(sorted(tally.refused.items())) for name, tally in tallies.items()},
    }
    report = {
        **facts,
        "settings": settings.augment.model_dump(),
        "turns_kept": {name: dict(sorted(tally.kept.items())) for name, tally in tallies.items()},
        "samples": {name: tally.samples for name, tally in tallies.items()},
    }
    write_atomic(out / "augment.json", json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    return facts


def _shown(changes: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"before": before[:MAX_SAMPLE_CHARS], "after": after[:MAX_SAMPLE_CHARS]} for before, after in changes]
