"""A dataset of a teacher's answers: asked on any engine, filtered, marked as synthetic.

Sequence-level distillation, Kim and Rush 2016, https://arxiv.org/abs/1606.07947; taking the answer nearest to the
dataset's own is their interpolation.
"""

import asyncio
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from vivace.chain import answer
from vivace.config.distill import DistillSettings
from vivace.domain import Example, Message, Request, Responder, Sampling, Workspace
from vivace.errors import DataError, EngineError, RequestError
from vivace.store import read_examples, write_examples
from vivace.store.files import append_line, disk_errors, read_journal, write_atomic

GROUP = 16
"""Prompts that are asked at once: always the same ones, so that an interruption changes no answer."""
METHOD = "distillation"
MAX_SAMPLES = 5
MAX_SAMPLE_CHARS = 600
_MAX_SEED = 2**31
_REFUSAL = re.compile(
    r"\A\W*(?:(?:unfortunately|(?:i'?m |i am )?(?:very |really |so |truly )?sorry|(?:my )?apolog\w+)\b[^.!?\n]{0,30})?"
    r"\bi(?:'?m| am)? (?:can(?:'?t|not)|won'?t|(?:not able|unable) to) (?:be able to )?"
    r"(?:help|assist|answer|provide|do that|discuss|fulfil|comply|share)",
    re.IGNORECASE,
)

Check = Callable[[str], str]
"""Returns the words that show what is wrong with an answer, or nothing."""


class Asked(Struct, frozen=True):
    """A line of the journal: what a group was asked with, and each prompt's answers with why one is no answer."""

    key: str
    answers: tuple[tuple[tuple[str, str], ...], ...]


class Tally(Struct):
    """What became of the answers; `refused` counts prompts by the reason of their last answer."""

    asked: int = 0
    accepted: int = 0
    overlap: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, str]] = field(default_factory=list)


async def write_answers(
    dataset: Path,
    responder: Responder,
    settings: DistillSettings,
    workspace: Workspace,
    *,
    teacher: str,
    seed: int,
    overlap: Callable[[str, str], float],
    checks: Mapping[str, Check],
) -> dict[str, Any]:
    """Write the dataset with the teacher's answers to the prompts of its train split, and return what is worth telling.

    `responder` answers as it is served, system prompt included; `overlap` is token F1; `checks` are further reasons
    to leave an answer out, by name. Validation and test rows stay as they were, and so do the train rows unless
    `keep_originals` is off. Beside examples.jsonl stand answers.json (counts, samples) and refused.jsonl. Finished
    groups are kept in the scratch folder. Raises `DataError` when no answer can be used.
    """
    examples = [example for example in read_examples(dataset / "examples.jsonl", "train") if prompt_of(example)]
    tally = Tally(asked=len(examples))
    made: list[Example] = []
    refused: list[dict[str, str]] = []
    with workspace.progress.task("The teacher answers", total=len(examples)) as bar:
        async for group, answers in _ask(examples, responder, settings, seed, workspace.scratch / "answers.jsonl"):
            for example, said in zip(group, answers, strict=True):
                found = choose(example, said, settings, overlap, checks)
                _count(tally, example, found, overlap)
                if isinstance(found, str):
                    reason, _, text = found.partition("\n")
                    refused.append({"id": example.id, "reason": reason, "answer": text[:MAX_SAMPLE_CHARS]})
                else:
                    made.append(_synthetic(example, found.text, teacher))
            bar.advance(len(group))
            bar.note(f"{tally.accepted} of {tally.accepted + tally.refused.total()} used")
    if not made:
        told = tally.refused.most_common(1)
        raise DataError(
            "None of the teacher's answers can be used" + (f": {told[0][0]}." if told else ": there is no prompt."),
            "Take another teacher, or lower min_token_f1 in [train.distill].",
        )
    _write(dataset, workspace.out, made, refused, settings)
    return _report(workspace.out, settings, tally, teacher)


class Chosen(Struct, frozen=True):
    """The answer that is learned."""

    text: str


def prompt_of(example: Example) -> tuple[Message, ...]:
    """Return the turns that the teacher answers, nothing when there are none."""
    turns = example.messages
    if turns and turns[-1].role == "assistant":
        turns = turns[:-1]
    return turns if turns and turns[-1].role in ("user", "tool") else ()


def reference_of(example: Example) -> str:
    """Return the dataset's own answer, empty when the conversation has none."""
    last = example.messages[-1]
    return last.content.strip() if last.role == "assistant" else ""


def choose(
    example: Example,
    answers: Sequence[tuple[str, str]],
    settings: DistillSettings,
    overlap: Callable[[str, str], float],
    checks: Mapping[str, Check],
) -> Chosen | str:
    """Return the answer to learn, or the reason why there is none, with the last answer on the lines after it.

    Of several that pass, the one nearest to the dataset's own answer is taken, else the one nearest to all others.
    """
    reference = reference_of(example)
    passed: list[str] = []
    reason = "empty\n"
    for text, broken in answers:
        wrong = broken or why_not(text, reference, settings.min_token_f1, overlap, checks)
        if wrong:
            reason = f"{wrong}\n{text}"
        else:
            passed.append(text)
    if not passed:
        return reason
    if reference:
        return Chosen(max(passed, key=lambda text: overlap(text, reference)))
    return Chosen(max(passed, key=lambda text: sum(overlap(text, other) for other in passed)))


def why_not(
    text: str, reference: str, min_token_f1: float, overlap: Callable[[str, str], float], checks: Mapping[str, Check]
) -> str:
    """Return why an answer is not learned, or nothing; what the dataset's own answer does too is no reason."""
    if not text:
        return "empty"
    if _REFUSAL.search(text.replace("’", "'")) and not _REFUSAL.search(reference.replace("’", "'")):
        return "refuses to answer"
    for name, check in checks.items():
        if check(text) and not (reference and check(reference)):
            return name
    if reference and overlap(text, reference) < min_token_f1:
        return "too far from the dataset's own answer"
    return ""


async def _ask(
    examples: Sequence[Example], responder: Responder, settings: DistillSettings, seed: int, journal: Path
) -> Any:
    """Yield groups of examples with the answers to each, asking only for what the journal does not know."""
    decoder = msgspec.json.Decoder(Asked)
    known = {asked.key: asked.answers for asked in map(decoder.decode, read_journal(journal))}
    ordered = sorted(examples, key=lambda each: (sum(len(turn.content) for turn in each.messages), each.id))
    how = (settings.samples, settings.answer_temperature, settings.max_answer_tokens, seed)
    for start in range(0, len(ordered), GROUP):
        group = ordered[start : start + GROUP]
        key = hashlib.sha256(msgspec.json.encode((how, group), order="deterministic")).hexdigest()
        answers = known.get(key)
        if answers is None:
            wanted = [(example, number) for example in group for number in range(settings.samples)]
            try:
                found = await asyncio.gather(*(_answer(responder, *each, settings, seed) for each in wanted))
            except EngineError as error:
                raise type(error)(
                    f"The engine failed while the teacher answered: {error.message}",
                    "Run the same command again: finished answers are kept.",
                ) from error
            size = settings.samples
            answers = tuple(tuple(found[place * size : (place + 1) * size]) for place in range(len(group)))
            append_line(journal, msgspec.json.encode(Asked(key, answers)))
        yield group, answers


async def _answer(
    responder: Responder, example: Example, number: int, settings: DistillSettings, seed: int
) -> tuple[str, str]:
    """Return an answer and, where it cannot be one, why."""
    several = settings.samples > 1
    drawn = int(hashlib.sha256(f"{seed} {example.id} {number}".encode()).hexdigest()[:12], 16) % _MAX_SEED
    sampling = Sampling(
        max_tokens=settings.max_answer_tokens,
        temperature=settings.answer_temperature if several else 0.0,
        seed=drawn if several else None,
    )
    request = Request(f"{example.id}#{number}", prompt_of(example), sampling=sampling, tools=example.tools)
    try:
        trace = await answer(responder, request)
    except RequestError as error:
        return error.message, "the teacher could not be asked"
    text = trace.answer.content.strip()
    return text, "longer than max_answer_tokens" if trace.finish_reason == "length" else ""


def _synthetic(example: Example, text: str, teacher: str) -> Example:
    """Return a train row with the teacher's answer, marked so; the turns before it are read, not learned."""
    before = tuple(
        msgspec.structs.replace(turn, weight=0.0) if turn.role == "assistant" else turn for turn in prompt_of(example)
    )
    messages = (*before, Message("assistant", text))
    metadata = {**example.metadata, "synthetic": True, "augmentation": METHOD, "origin": example.id, "teacher": teacher}
    return msgspec.structs.replace(
        example,
        id=f"{example.id}~{METHOD}",
        messages=messages,
        content_hash=hashlib.sha256(msgspec.json.encode((messages, example.tools), order="deterministic")).hexdigest(),
        metadata=metadata,
        rating=None,
        rejected=(),
    )


def _count(tally: Tally, example: Example, found: Chosen | str, overlap: Callable[[str, str], float]) -> None:
    if isinstance(found, str):
        tally.refused[found.partition("\n")[0]] += 1
        return
    reference = reference_of(example)
    tally.accepted += 1
    tally.overlap += overlap(found.text, reference) if reference else 0.0
    if len(tally.samples) < MAX_SAMPLES:
        question = prompt_of(example)[-1].content
        told = {"id": example.id, "question": question, "reference": reference, "answer": found.text}
        tally.samples.append({name: text[:MAX_SAMPLE_CHARS] for name, text in told.items()})


def _write(
    dataset: Path, out: Path, made: Sequence[Example], refused: Sequence[dict[str, str]], settings: DistillSettings
) -> None:
    with disk_errors(out):
        # A card would tell of the dataset before.
        others = shutil.ignore_patterns("card.*")
        shutil.copytree(dataset, out, ignore=others, dirs_exist_ok=True, copy_function=shutil.copyfile)
    kept = (
        example
        for example in read_examples(dataset / "examples.jsonl")
        if settings.keep_originals or example.split != "train"
    )
    write_examples(out / "examples.jsonl", [*kept, *sorted(made, key=lambda example: example.id)])
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in refused]
    write_atomic(out / "refused.jsonl", "".join(lines))


def _report(out: Path, settings: DistillSettings, tally: Tally, teacher: str) -> dict[str, Any]:
    facts = {
        "teacher": teacher,
        "asked": tally.asked,
        "accepted": tally.accepted,
        "refused": dict(sorted(tally.refused.items())),
        "mean_token_f1": round(tally.overlap / tally.accepted, 4),
    }
    report = {**facts, "keep_originals": settings.keep_originals, "samples": tally.samples}
    write_atomic(out / "answers.json", json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    return facts
