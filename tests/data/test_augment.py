"""The augment stage: what joins the training rows, how much of it, and what stays as it was."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.config.data import DataSettings
from vivace.data.augment import TextEmbedder, augment
from vivace.data.augment.acceptance import Exchange, check_grounded, check_meaning, check_rewrite
from vivace.data.augment.guard import Guard
from vivace.data.augment.noise import add_noise
from vivace.data.augment.stage import most_synthetic
from vivace.data.augment.wording import exact_parts, names_in
from vivace.domain import Example, Message, Responder, SilentProgress, Workspace
from vivace.errors import ConfigError, DataError
from vivace.store.rows import read_examples, write_examples

ORDERS = [
    "Hello, where is my parcel number {0}? It should have come on Monday with DHL.",
    "I bought a Breville kettle for ${0}.99 and the lid is broken, please help me.",
    "My order ABC-{0} never arrived, write to [EMAIL_1] or see https://shop.example/{0}?x=1 please.",
    "Can you change the delivery address of order {0} to my office, please? Thanks, Maria",
]


class Bags:
    """An embedder for tests: which words a text has."""

    def embed(self, texts: list[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), 512), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, random.Random(word).randrange(512)] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def rows(count: int, **extra: Any) -> list[Example]:
    """Return conversations of which the last fifth is validation and test."""
    return [
        Example(
            f"shop:{number}",
            (
                Message("user", ORDERS[number % 4].format(1000 + number)),
                Message("assistant", f"I am sorry. I look into number {1000 + number} at once.", weight=1.0),
                Message("user", "That would be wonderful, thank you so much for the quick answer"),
                Message("assistant", "You are welcome."),
            ),
            split="train" if number < count * 0.8 else "validation" if number % 2 else "test",
            tools=({"type": "function", "function": {"name": "track"}},),
            source=f"shop.jsonl:{number + 1}",
            content_hash=f"{number:064d}",
            metadata={"intent": "rare" if number in (3, 17) else "common", **extra},
        )
        for number in range(count)
    ]


class Augmented:
    """A run of `augment`: its facts and what it wrote."""

    def __init__(self, out: Path, facts: dict[str, Any], before: list[Example]) -> None:
        self.out = out
        self.facts = facts
        self.all = list(read_examples(out / "examples.jsonl"))
        self.new = self.all[len(before) :]
        self.report: dict[str, Any] = json.loads((out / "augment.json").read_text())
        self.refused = [json.loads(line) for line in (out / "refused.jsonl").read_text().splitlines()]


def run(
    folder: Path,
    examples: list[Example],
    methods: list[str],
    *,
    responder: Responder | None = None,
    embedder: TextEmbedder | None = None,
    documents: str = "",
    system: str = "",
    scratch: Path | None = None,
    seed: int = 0,
    **augmenting: Any,
) -> Augmented:
    dataset, number = folder / "dataset", len(list(folder.glob("out*")))
    out = folder / f"out{number}"
    scratch = scratch or folder / f"scratch{number}"
    for each in (dataset, out, scratch):
        each.mkdir(exist_ok=True, parents=True)
    write_examples(dataset / "examples.jsonl", examples)
    (dataset / "documents.jsonl").write_text(documents)
    (dataset / "report.json").write_text('{"kept": true}')
    asked = DataSettings(seed=seed, augment={"methods": methods, **augmenting})  # type: ignore[arg-type]
    workspace = Workspace(out, scratch, SilentProgress())
    work = augment(dataset, asked, workspace, responder=responder, embedder=embedder, system=system)
    return Augmented(out, asyncio.run(work), examples)


def test_originals_and_other_files_stay_byte_by_byte_and_new_rows_follow_marked_synthetic(tmp_path: Path) -> None:
    examples = rows(50)
    found = run(tmp_path, examples, ["noise"], share=0.2)
    before = (tmp_path / "dataset" / "examples.jsonl").read_bytes()
    assert (found.out / "examples.jsonl").read_bytes().startswith(before)
    assert (found.out / "report.json").read_text() == '{"kept": true}'
    origins = {example.id: example for example in examples}
    assert found.new
    for row in found.new:
        origin = origins[row.metadata["origin"]]
        assert row.id == f"{origin.id}~noise-1"
        assert (row.split, row.tools, row.source) == ("train", origin.tools, origin.source)
        assert row.metadata == {**origin.metadata, "synthetic": True, "augmentation": "noise", "origin": origin.id}
        assert row.content_hash not in {example.content_hash for example in examples}
        assert [m for m in row.messages if m.role != "user"] == [m for m in origin.messages if m.role != "user"]
        assert [m.content for m in row.messages] != [m.content for m in origin.messages]


def test_only_training_rows_are_origins(tmp_path: Path) -> None:
    examples = rows(50)
    splits = {example.id: example.split for example in examples}
    found = run(tmp_path, examples, ["noise"], share=0.6)
    assert {splits[row.metadata["origin"]] for row in found.new} == {"train"}
    assert {splits[line["origin"]] for line in found.refused} <= {"train"}


def test_rare_classes_are_drawn_first(tmp_path: Path) -> None:
    found = run(tmp_path, rows(50), ["noise"], share=0.05)
    assert [row.metadata["intent"] for row in found.new] == ["rare", "rare"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    one, two, other = (run(tmp_path, rows(40), ["noise"], seed=seed) for seed in (1, 1, 2))
    for name in ("examples.jsonl", "augment.json", "refused.jsonl"):
        assert (one.out / name).read_bytes() == (two.out / name).read_bytes()
    assert one.new != other.new


@given(st.integers(0, 10**7), st.floats(0, 0.999).map(lambda share: round(share, 3)))
def test_the_share_is_met_and_never_exceeded(originals: int, share: float) -> None:
    from fractions import Fraction

    made, exact = most_synthetic(originals, share), Fraction(str(share))
    assert made <= exact * (originals + made)
    assert made + 1 > exact * (originals + made + 1)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7])
def test_the_share_of_the_written_training_split_is_at_most_the_one_asked_for(tmp_path: Path, share: float) -> None:
    found = run(tmp_path, rows(50), ["noise"], share=share)
    train = [row for row in found.all if row.split == "train"]
    assert len(found.new) == most_synthetic(40, share) == found.facts["synthetic"]
    assert len(found.new) <= share * len(train)


def test_rows_that_are_synthetic_already_count_and_are_no_origins(tmp_path: Path) -> None:
    first = run(tmp_path, rows(50), ["noise"], share=0.2)
    again = run(tmp_path, first.all, ["noise"], share=0.2)
    assert again.new == []
    more = run(tmp_path, first.all, ["noise"], share=0.3, seed=5)
    assert len(more.new) == most_synthetic(40, 0.3) - len(first.new)
    assert not any("~" in row.metadata["origin"] for row in more.new)


def test_a_row_that_says_what_a_held_out_row_says_is_refused(tmp_path: Path) -> None:
    origin = Example("a", (Message("user", "please send my kettle back quickly"), Message("assistant", "Done.")))
    plain = run(tmp_path, [origin], ["noise"], share=0.5)
    assert len(plain.new) == 1
    leaked = Example("b", (plain.new[0].messages[0], Message("assistant", "No.")), split="test")
    guarded = run(tmp_path, [origin, leaked], ["noise"], share=0.5)
    assert guarded.refused[0]["reason"] == "a held-out row says the same"
    assert guarded.refused[0]["origin"] == "a"
    assert [row.id for row in guarded.new] == ["a~noise-2"]


def test_thirteen_words_of_a_held_out_row_in_a_row_are_a_leak_and_twelve_are_none() -> None:
    said = ["i", "bought", "it", "on", "a", "sunny", "day", "in", "may", "and", "now", "it", "will", "not", "heat"]
    guard = Guard()
    guard.learn(Example("held", (Message("user", f"Well {' '.join(said)} at all"),), split="test"))
    guard.learn(
        Example(
            "learned", (Message("user", "quite another thing that nobody ever said before in all the years of it"),)
        )
    )
    guard.seal()

    def refused(text: str) -> str:
        refusal = guard.refuse((Message("user", text),), [text])
        return refusal.reason if refusal else ""

    assert refused(f"My kettle: {' '.join(said[:13]).upper()}!") == "13 words in a row of a held-out row"
    assert refused(f"My kettle: {' '.join(said[:12])}!") == ""
    assert refused("Quite another thing that nobody ever said before in all the years of it, yes") == ""
    assert (
        refused("Quite another thing that nobody ever said before in all the years of it!") == "the same as another row"
    )


def test_no_methods_copy_the_dataset(tmp_path: Path) -> None:
    found = run(tmp_path, rows(10), [])
    assert found.new == []
    assert found.facts["share"] == 0


def test_what_a_method_misses_is_said_before_any_work(tmp_path: Path) -> None:
    for method, missing in (
        ("paraphrase", "no model"),
        ("from_documents", "no model"),
        ("back_translation", "no embedder"),
    ):
        with pytest.raises(ConfigError, match=f"{method}.*{missing}"):
            run(tmp_path, rows(10), [method])


def test_a_missing_or_broken_dataset_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    workspace = Workspace(tmp_path / "o", tmp_path / "s", SilentProgress())
    with pytest.raises(DataError, match="no dataset"):
        asyncio.run(augment(tmp_path / "dataset", DataSettings(), workspace))
    (tmp_path / "dataset" / "examples.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(DataError, match="line 1"):
        asyncio.run(augment(tmp_path / "dataset", DataSettings(), workspace))


# Noise

PIECES = st.sampled_from(
    [*" .,;!?'-/()[]`", "\n", "  ", "[EMAIL_1]", "[ORDER_NUMBER_12]", "https://a.example/b?c=1.", "me@shop.example",
     "`x = open(y)`", "```\ncode here\n```", "ABC-1234", "3.50", "$9", "30%", "5G", "24-48", "10:30", "please", "you",
     "delivery", "Maria", "Samsung", "I", "don't", "straße", "você", "你好", "😀", "HELP", "because"]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=60), st.lists(PIECES, max_size=25).map("".join), st.lists(PIECES, max_size=25).map(" ".join)
)


@settings(deadline=None)
@given(TEXTS, st.integers(0, 1000), st.sampled_from(["en", "pt", "es", "xx", ""]))
def test_noise_keeps_numbers_placeholders_addresses_code_and_names(text: str, seed: int, language: str) -> None:
    names = names_in([text])
    typed = add_noise(text, random.Random(seed), names, language)
    assert exact_parts(typed) == exact_parts(text)
    for word in text.split():
        if word.strip(".,!?").casefold() in names:
            assert word.strip(".,!?") in typed
    assert typed == add_noise(text, random.Random(seed), names, language)


@settings(deadline=None, max_examples=200)
@given(TEXTS, TEXTS)
def test_an_accepted_text_has_the_same_numbers_and_placeholders_whoever_wrote_it(before: str, after: str) -> None:
    if check_rewrite(before, after, names_in([before]), "") is None:
        assert exact_parts(before) == exact_parts(after)


def test_noise_leaves_a_name_alone_that_the_customer_writes_small() -> None:
    for seed in range(100):
        assert "samsung" in add_noise("the samsung came broken", random.Random(seed), frozenset({"samsung"})).split()


def test_noise_makes_about_as_many_errors_as_people_do() -> None:
    text = "I would like to know whether the delivery of my kitchen furniture can happen during the next weekend"
    typed = [add_noise(text, random.Random(seed), frozenset()).lower().split() for seed in range(300)]
    wrong = sum(a != b for words in typed for a, b in zip(words, text.lower().split(), strict=True)) / (300 * 18)
    assert 0.04 < wrong < 0.15


# Acceptance


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("Where is my parcel 123?", "Where has my parcel 132 gone?", "numbers changed"),
        ("Where is my parcel 123?", "Where has my parcel gone?", "numbers changed"),
        ("It cost me $20, too much", "It cost me €20, that is a lot", "numbers changed"),
        ("Write to [EMAIL_1] please, quickly", "Please mail to [EMAIL_2] quickly", "numbers changed"),
        ("see https://a.example/1 about it", "it is on https://a.example/2 there", "numbers changed"),
        ("My kettle by Breville broke", "My kettle by Philips is broken", "names changed"),
        ("My kettle broke down again", "My kettle from Philips broke down", "names changed"),
        ("Where is my parcel?", "WHERE IS: my parcel!", "the same as its origin"),
        ("Where is my parcel now?", "  …  ", "empty"),
        ("Where is my parcel now?", "Sure, here is a rewrite: Where has it gone?", "instruction left in the text"),
        ("Where is my parcel now?", "Rewritten message: what happened to it?", "instruction left in the text"),
        ("Where is my parcel now?", "Where? " * 30, "length out of bounds"),
        ("My parcel did not arrive today", "My parcel has arrived today", "negation changed"),
        ("It was marked as delivered", "It says delivered delivered", "a word twice in a row"),
        ("Where is my parcel, I have been waiting for it since last week",
         "Onde está o meu pacote, estou esperando por ele desde a semana passada", "language changed"),
    ],
)  # fmt: skip
def test_texts_that_do_not_stand_for_their_origin_are_refused(before: str, after: str, reason: str) -> None:
    refusal = check_rewrite(before, after, names_in([before]), "")
    assert refusal is not None
    assert refusal.reason == reason


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Where is my parcel 123?", "What happened to parcel 123 of mine?"),
        ("My Breville kettle for $49.99 broke", "The kettle by Breville, which cost $49.99, is broken"),
        ("My order #55-66 hasn't come", "Order 55-66 did not get here"),
        ("WHY IS NOBODY ANSWERING ME", "Why does nobody answer me"),
        ("Here is the message I got from DHL", "This is the message that DHL sent"),
    ],
)
def test_texts_that_stand_for_their_origin_are_accepted(before: str, after: str) -> None:
    assert check_rewrite(before, after, names_in([before]), "en") is None


def test_a_name_known_from_another_turn_is_kept_where_it_begins_a_sentence() -> None:
    names = names_in(["I want a phone from Samsung", "Samsung phones break"])
    assert names == {"samsung"}
    assert check_rewrite("Samsung phones break often", "Their phones break a lot", names, "") is not None


def test_meaning_is_the_cosine_and_what_is_no_number_is_refused() -> None:
    near, far = check_meaning([("a b c", "a b c d"), ("a b c", "x y z")], Bags(), 0.8)
    assert near is None
    assert far is not None
    assert far.reason == "meaning changed"

    class Broken:
        def embed(self, texts: list[str]) -> np.ndarray:
            return np.full((len(texts), 2), np.nan)

    assert check_meaning([("a", "b")], Broken(), 0.0)[0] is not None


PASSAGE = "Returns\n\nYou can send back any kettle within 30 days. Write to Maria in Leeds; postage costs $4.99."


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("Can I send back a kettle?", "Yes, any kettle within 30 days; postage costs $4.99.", None),
        ("Can I send back a kettle?", "Yes, any kettle within 60 days.", "numbers not in the passage"),
        ("Can I send back order 77?", "Yes, any kettle within 30 days.", "numbers not in the passage"),
        ("Can I send back a kettle?", "Yes, write to our Paul in Leeds.", "names not in the passage"),
        (
            "Can I send back a kettle?",
            "Sadly this depends on various complicated legal matters.",
            "answer not grounded",
        ),
        ("Who won the football match?", "You can send back any kettle.", "question not about the passage"),
        ("Can I send back a kettle?", "Yes.", "empty"),
        ("Can I send back a kettle?", "The passage says any kettle within 30 days.", "instruction left in the text"),
    ],
)
def test_an_answer_says_what_the_passage_says(question: str, answer: str, reason: str | None) -> None:
    refusal = check_grounded(PASSAGE, [Exchange(question, answer)])
    assert (refusal.reason if refusal else None) == reason
