"""Augmentation by models: what is asked, what is refused, and what an interruption costs."""

import asyncio
import json
import random
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.test_augment import Bags, rows, run
from vivace.config.data import DataSettings
from vivace.data.augment import augment
from vivace.data.augment.acceptance import Exchange
from vivace.data.augment.from_documents import MAX_PASSAGE_CHARS, Page, parse_exchanges, passages
from vivace.data.augment.paraphrase import INSTRUCTION
from vivace.domain import Chunk, Example, Message, Model, Request, SilentProgress, Usage, Workspace
from vivace.engines import open_engine
from vivace.errors import EngineDied, EngineError, RequestError
from vivace.store.rows import read_examples, write_examples

DOCUMENT = {
    "id": "help:1",
    "path": "help.md",
    "title": "Help",
    "text": "# Returns\n\nYou can send back any kettle within 30 days of delivery. Postage costs $4.99 for parcels.\n",
    "sha256": "",
}


class Agreeable:
    """An embedder for tests to which all texts are alike."""

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 1), dtype=np.float32)


class Scripted:
    """A responder that says what `script` makes of a prompt, word by word; it counts what is in work at once."""

    def __init__(self, script: Callable[[str], str], delay_s: float = 0.0, fail_after: int | None = None) -> None:
        self.script = script
        self.delay_s = delay_s
        self.fail_after = fail_after
        self.requests: list[Request] = []
        self.active = self.most_active = self.closed = 0

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(self.delay_s * len(self.requests))
            if self.fail_after is not None and len(self.requests) > self.fail_after < self.requests.index(request) + 1:
                raise EngineDied("The engine died.")
            text = self.script(request.messages[-1].content)
            words = text.split(" ")
            for place, word in enumerate(words[: request.sampling.max_tokens]):
                yield Chunk(text=(" " if place else "") + word)
            cut = len(words) > request.sampling.max_tokens
            yield Chunk(finish_reason="length" if cut else "stop", usage=Usage(1, len(words)))
        finally:
            self.active -= 1
            self.closed += 1


def reworded(prompt: str) -> str:
    """Say the customer's message in other words, as a good model would."""
    return "Kindly note: " + prompt.removeprefix(INSTRUCTION)


def test_paraphrases_are_asked_for_at_once_with_seeds_and_accepted(tmp_path: Path) -> None:
    good = Scripted(reworded)
    found = run(tmp_path, rows(20), ["paraphrase"], responder=good, embedder=Bags(), min_similarity=0.5, share=0.3)
    assert len(found.new) == 6
    assert good.most_active == len(good.requests) == 12
    assert len({request.sampling.seed for request in good.requests}) > 4
    assert {request.sampling.max_tokens for request in good.requests} == {160}
    for row in found.new:
        assert row.messages[0].content.startswith("Kindly note: ")
        assert row.metadata["augmentation"] == "paraphrase"
    sample = found.report["samples"]["paraphrase"][0]["changes"][0]
    assert sample["after"] == "Kindly note: " + sample["before"]


def wrong_number(prompt: str) -> str:
    return reworded(prompt) + " It was number 77."


def other_name(prompt: str) -> str:
    return reworded(prompt) + " says my friend Paul"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (lambda _prompt: "", "empty"),
        (lambda prompt: prompt.removeprefix(INSTRUCTION), "the same as its origin"),
        (lambda prompt: '"' + prompt.removeprefix(INSTRUCTION) + '"', "the same as its origin"),
        (wrong_number, "numbers changed"),
        (other_name, "names changed"),
        (
            lambda prompt: "Sure, here is the message: " + prompt.removeprefix(INSTRUCTION),
            "instruction left in the text",
        ),
        (lambda prompt: reworded(prompt) + " and so on" * 100, "cut off"),
        (lambda prompt: prompt.removeprefix(INSTRUCTION).split()[0], "length out of bounds"),
    ],
)
def test_what_a_bad_model_writes_is_refused_with_the_reason(
    tmp_path: Path, script: Callable[[str], str], reason: str
) -> None:
    bad = Scripted(script)
    found = run(tmp_path, rows(20), ["paraphrase"], responder=bad, embedder=Bags(), min_similarity=0.1)
    assert found.new == []
    assert reason in found.facts["refused"]["paraphrase"]
    assert sum(found.facts["refused"]["paraphrase"].values()) == len(found.refused) == 32
    assert {line["method"] for line in found.refused} == {"paraphrase"}


def test_a_method_of_which_next_to_nothing_can_be_used_is_given_up_and_the_others_fill_the_share(
    tmp_path: Path,
) -> None:
    useless = Scripted(lambda _prompt: "")
    found = run(tmp_path, rows(500), ["noise", "paraphrase"], responder=useless, embedder=Bags(), share=0.2)
    assert found.facts["gave_up"] == ["paraphrase"]
    assert found.facts["accepted"] == {"paraphrase": 0, "noise": 100}
    assert sum(line["method"] == "paraphrase" for line in found.refused) == 192


def test_what_means_something_else_is_refused(tmp_path: Path) -> None:
    found = run(tmp_path, rows(20), ["paraphrase"], responder=Scripted(reworded), embedder=Bags(), min_similarity=0.999)
    assert found.new == []
    assert set(found.facts["refused"]["paraphrase"]) == {"meaning changed"}


def test_a_prompt_that_the_engine_refuses_costs_that_row_alone(tmp_path: Path) -> None:
    def script(prompt: str) -> str:
        if "1001" in prompt or "thank you" in prompt:
            raise RequestError("The prompt is too long.")
        return reworded(prompt)

    found = run(tmp_path, rows(20), ["paraphrase"], responder=Scripted(script), embedder=Bags(), min_similarity=0.5)
    assert found.new
    assert found.facts["refused"]["paraphrase"] == {"the model could not be asked": 1} or len(found.new) == 6


def test_an_engine_that_dies_ends_the_stage_and_finished_texts_are_not_asked_for_again(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    dying = Scripted(reworded, fail_after=7)
    with pytest.raises(EngineError, match="engine failed.*finished texts are kept"):
        run(tmp_path, rows(20), ["paraphrase"], responder=dying, embedder=Bags(), min_similarity=0.5, scratch=scratch)
    again = Scripted(reworded)
    found = run(
        tmp_path, rows(20), ["paraphrase"], responder=again, embedder=Bags(), min_similarity=0.5, scratch=scratch
    )
    whole = run(tmp_path, rows(20), ["paraphrase"], responder=Scripted(reworded), embedder=Bags(), min_similarity=0.5)
    assert len(again.requests) == len(dying.requests) - 7
    assert found.new == whole.new


def test_a_cancelled_stage_leaves_no_request_behind(tmp_path: Path) -> None:
    slow = Scripted(reworded, delay_s=60)
    dataset = tmp_path / "dataset"
    write_examples(dataset / "examples.jsonl", rows(20))
    settings = DataSettings(augment={"methods": ["paraphrase"]})  # type: ignore[arg-type]

    async def story() -> None:
        workspace = Workspace(tmp_path / "out", tmp_path / "scratch", SilentProgress())
        work = asyncio.create_task(augment(dataset, settings, workspace, responder=slow, embedder=Bags()))
        while not (slow.active or work.done()):
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(story())
    assert slow.active == 0
    assert slow.closed == len(slow.requests) > 0


def test_a_killed_stage_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write_examples(tmp_path / "dataset" / "examples.jsonl", rows(20))
    (tmp_path / "dataset" / "documents.jsonl").write_text("")
    story = f"""
        import asyncio, os
        from pathlib import Path
        from tests.data.test_augment import Bags
        from tests.data.test_augment_models import Scripted, reworded
        from vivace.config.data import DataSettings
        from vivace.data.augment import augment
        from vivace.domain import SilentProgress, Workspace

        count = 0
        def script(prompt):
            global count
            count += 1
            if count == 6:
                os.kill(os.getpid(), 9)
            return reworded(prompt)

        folder = Path({str(tmp_path)!r})
        settings = DataSettings(augment={{"methods": ["paraphrase"], "min_similarity": 0.5}})
        workspace = Workspace(folder / "half", folder / "scratch", SilentProgress())
        writer = Scripted(script, 0.001)
        asyncio.run(augment(folder / "dataset", settings, workspace, responder=writer, embedder=Bags()))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(story)], check=False)
    assert killed.returncode == -9
    rest = Scripted(reworded)
    scratch = tmp_path / "scratch"
    found = run(
        tmp_path, rows(20), ["paraphrase"], responder=rest, embedder=Bags(), min_similarity=0.5, scratch=scratch
    )
    assert len(found.new) == 6
    assert len(rest.requests) == 12 - 5


def answers(prompt: str) -> str:
    assert "send back any kettle" in prompt
    return "Q: Can I send back a kettle?\nA: Yes, any kettle within 30 days of delivery."


@pytest.mark.parametrize("system", ["", "You are Ada of the kettle shop."])
def test_documents_become_conversations_with_their_source(tmp_path: Path, system: str) -> None:
    writer = Scripted(answers)
    document = json.dumps(DOCUMENT) + "\n"
    found = run(tmp_path, rows(20), ["from_documents"], responder=writer, documents=document, system=system)
    (row,) = found.new
    assert row.id == "help:1#1~from_documents-1"
    assert row.metadata == {
        "language": "en",
        "synthetic": True,
        "augmentation": "from_documents",
        "origin": "help:1#1",
    }
    assert row.source == "help.md"
    assert [message.role for message in row.messages] == ["user", "assistant"]
    assert all(system in request.messages[0].content for request in writer.requests)
    assert {line["reason"] for line in found.refused} == {"the same as another row"}


def test_a_conversation_from_documents_that_a_test_row_asks_is_refused(tmp_path: Path) -> None:
    held = Example("t", (Message("user", "can i send back a kettle"), Message("assistant", "Yes.")), split="test")
    document = json.dumps(DOCUMENT) + "\n"
    found = run(tmp_path, [*rows(20), held], ["from_documents"], responder=Scripted(answers), documents=document)
    assert found.new == []
    assert set(found.facts["refused"]["from_documents"]) == {"a held-out row says the same"}


@pytest.mark.parametrize(
    "text",
    [
        "Q: How long?\nA: Thirty days.\nQ: And then?\nA: It is yours.",
        "**Q1:** How long?\n**A1:** Thirty days.\n\n**Q2:** And then?\n**A2:** It is yours.\nQ: never a",
        "Customer: How long?\nAgent: Thirty days.\nCustomer: And then?\nAgent: It is yours.",
        'Here you are:\n```json\n[{"question": "How long?", "answer": "Thirty days."},\n'
        ' {"q": "And then?", "a": "It is yours."}]```',
        '{"turns": [{"Question": "How long?", "Answer": "Thirty days."},'
        ' {"user": "And then?", "assistant": "It is yours."}]}',
        '{"messages": [{"role": "user", "content": "How long?"}, {"role": "assistant", "content": "Thirty days."},'
        ' {"role": "user", "content": "And then?"}, {"role": "assistant", "content": "It is yours."}]}',
    ],
)
def test_questions_and_answers_are_understood_in_any_usual_shape(text: str) -> None:
    assert parse_exchanges(text) == [Exchange("How long?", "Thirty days."), Exchange("And then?", "It is yours.")]


@given(
    st.one_of(
        st.text(), st.lists(st.sampled_from(["Q:", "A:", "{", "}", "[", "]", '"a"', ":", "\n", "x"])).map("".join)
    )
)
def test_anything_else_is_no_question_and_no_crash(text: str) -> None:
    for exchange in parse_exchanges(text):
        assert exchange.question
        assert exchange.answer


WORD = st.sampled_from(["kettle", "lid.", "# Returns", "\n\n", "\n", "yes!", "x" * 700, "Title\n=====", "word " * 60])


@given(st.lists(WORD, max_size=40).map(" ".join))
def test_passages_are_short_and_say_nothing_that_the_document_does_not(text: str) -> None:
    found = list(passages(Page("d", text)))
    assert all(len(passage.text) <= MAX_PASSAGE_CHARS for passage in found)
    assert len({passage.id for passage in found}) == len(found)
    plain = "".join(text.split())
    assert all(part in plain for passage in found for part in passage.text.split())


def test_every_word_of_a_long_document_is_in_its_passages() -> None:
    words = [f"word{number}." for number in range(2000)]
    for text in (" ".join(words), "# Heading\n" + "\n".join(words), "\n\n".join(words)):
        said = " ".join(passage.text for passage in passages(Page("d", text))).split()
        assert [word for word in said if word.startswith("word")] == words


def test_a_passage_stands_under_its_heading_alone() -> None:
    text = "# One\n\n" + "first words " * 8 + "\n\n## Two\n\n" + "second words " * 8
    one, two = passages(Page("d", text))
    assert one.text.startswith("One\n\nfirst")
    assert two.text.startswith("Two\n\nsecond")
    assert "first" not in two.text


def test_the_echo_engine_writes_nothing_that_is_accepted(tmp_path: Path) -> None:
    write_examples(tmp_path / "dataset" / "examples.jsonl", rows(10))
    (tmp_path / "dataset" / "documents.jsonl").write_text(json.dumps(DOCUMENT) + "\n")
    asked = {"methods": ["paraphrase", "from_documents"], "max_tokens": 1500}
    settings = DataSettings(augment=asked)  # type: ignore[arg-type]

    async def story() -> dict[str, object]:
        async with open_engine("echo", Model("echo", tmp_path, "echo", "none")) as engine:
            workspace = Workspace(tmp_path / "out", tmp_path / "scratch", SilentProgress())
            return await augment(tmp_path / "dataset", settings, workspace, responder=engine, embedder=Bags())

    facts = asyncio.run(story())
    assert facts["synthetic"] == 0
    assert facts["refused"] == {
        "from_documents": {"not questions and answers": 2},
        "paraphrase": {"instruction left in the text": 16},
    }
    assert len(list(read_examples(tmp_path / "out" / "examples.jsonl"))) == 10


def test_a_language_without_offline_models_is_translated_by_the_model(tmp_path: Path) -> None:
    german = [
        Example(
            f"de:{number}",
            (
                Message("user", f"Wo ist mein Paket {number}, ich warte schon lange darauf"),
                Message("assistant", "Moment."),
            ),
            metadata={"language": "de"},
        )
        for number in range(6)
    ]

    def script(prompt: str) -> str:
        text = prompt.split("\n\n", 1)[1]
        if "into English" in prompt:
            return text.replace("Wo ist mein Paket", "Where is my parcel")
        assert "into German" in prompt
        return text.replace("Where is my parcel", "Wo bleibt mein Paket")

    options = {"embedder": Bags(), "share": 0.5, "min_similarity": 0.5}
    found = run(tmp_path, german, ["back_translation"], responder=Scripted(script), **options)  # type: ignore[arg-type]
    assert len(found.new) == 6
    assert all(row.messages[0].content.startswith("Wo bleibt mein Paket") for row in found.new)
    without = run(tmp_path, german, ["back_translation"], **options)  # type: ignore[arg-type]
    assert without.facts["refused"] == {"back_translation": {"no translation for the language": 6}}


@pytest.mark.slow
def test_the_real_translator_rewords_and_keeps_numbers_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    options = {"embedder": Agreeable(), "share": 0.4, "scratch": tmp_path / "scratch"}
    found = run(tmp_path, rows(20), ["back_translation"], **options)  # type: ignore[arg-type]
    assert len(found.new) >= 5
    origins = {example.id: example for example in rows(20)}
    for row in found.new:
        for message, before in zip(row.messages, origins[row.metadata["origin"]].messages, strict=True):
            assert [word for word in message.content.split() if "1" in word] == [
                word for word in before.content.split() if "1" in word
            ]
    journal = tmp_path / "scratch" / "texts.jsonl"
    size = journal.stat().st_size
    again = run(tmp_path, rows(20), ["back_translation"], **options)  # type: ignore[arg-type]
    assert again.new == found.new
    assert journal.stat().st_size == size


def test_the_order_of_rows_decides_nothing_but_their_order(tmp_path: Path) -> None:
    shuffled = rows(30)
    random.Random(1).shuffle(shuffled)
    one = run(tmp_path / "a", rows(30), ["noise"], share=0.2)
    two = run(tmp_path / "b", shuffled, ["noise"], share=0.2)
    encode = msgspec.json.encode
    assert sorted(map(encode, one.new)) == sorted(map(encode, two.new))
