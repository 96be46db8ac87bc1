"""Cleaning steps: what each changes, drops and leaves alone."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rooms import corpus_of, run_step
from vivace.config.data import DataSettings
from vivace.data.corpus.sketches import PERMUTATIONS, bands_for, jaccard, shingles
from vivace.data.duplicates.clusters import link_near_duplicates
from vivace.data.rows import Row
from vivace.data.steps import STEPS
from vivace.data.steps.encoding import repair
from vivace.data.steps.language import detect
from vivace.data.steps.turns import arrange
from vivace.data.steps.whitespace import squeeze
from vivace.domain import Example, FunctionCall, Message, Role, ToolCall
from vivace.errors import ConfigError


def said(*turns: tuple[Role, str]) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in turns)


def row(name: str, *turns: tuple[Role, str], held_out: bool = False) -> Row:
    return Row(Example(name, said(*turns), content_hash=name), held_out=held_out)


def exchange(name: str, question: str, answer: str, *, held_out: bool = False) -> Row:
    return row(name, ("user", question), ("assistant", answer), held_out=held_out)


def ids(rows: list[Row]) -> list[str]:
    return [kept.example.id for kept in rows]


def test_every_registered_step_has_a_file_of_its_name() -> None:
    import vivace.data.steps as package

    folder = Path(package.__file__ or "").parent
    assert all((folder / f"{name}.py").is_file() for name in STEPS.names())
    assert DataSettings().steps == [name for name in STEPS.names() if name in DataSettings().steps]


def test_an_unknown_step_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no step 'near_duplicate'.*near_duplicates"):
        run_step("near_duplicate", [], DataSettings())


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("The cafÃ© isnâ€™t open", "The café isn’t open"),
        ("<p>Hello <b>Ann</b>,</p><p>your order<br/>is here.</p>", "Hello Ann,\n\nyour order\nis here."),
        ("Fish &amp; chips &lt;3 &#8364;5", "Fish & chips <3 €5"),
        ("&lt;p&gt;escaped&lt;/p&gt;", "escaped"),
        ('See <a href="https://shop.example/returns">our page</a>.', "See our page (https://shop.example/returns)."),
        ('<a href="mailto:a@b.example">a@b.example</a>', "a@b.example"),
        ("<script>alert(1)</script>Hi<!-- note -->", "Hi"),
        ("a < b and c > d, AT&T, <order number>, I <3 it", "a < b and c > d, AT&T, <order number>, I <3 it"),
        ("Use `<b>` or ```<p>x</p>```", "Use `<b>` or ```<p>x</p>```"),
        ("“Curly” – quotes … stay", "“Curly” – quotes … stay"),
        ("bell\x07 gone", "bell gone"),
    ],
)
def test_encoding_repairs_damage_and_strips_markup_only(text: str, clean: str) -> None:
    assert repair(text)[0] == clean


@given(st.text(max_size=100) | st.text("<>&;/pbra amlt\"'`=", max_size=60))
def test_repairing_twice_changes_nothing_more(text: str) -> None:
    once = repair(text)[0]
    assert repair(once)[0] == once


def test_whitespace_keeps_paragraphs_and_code() -> None:
    assert squeeze("  a \u00a0 b\t c \r\n\r\n\r\n\r\nd\u200b \n e ") == "a b c\n\nd\ne"
    assert squeeze("x  y\n```\nif a:\n    b\n```  z") == "x y\n```\nif a:\n    b\n``` z"


@given(st.text(max_size=200))
def test_squeezing_twice_changes_nothing_more(text: str) -> None:
    assert squeeze(squeeze(text)) == squeeze(text)


def turned(*turns: tuple[Role, str], max_turns: int = 40) -> list[tuple[str, str]]:
    from collections import Counter

    return [(message.role, message.content) for message in arrange(said(*turns), max_turns, Counter())]


def test_turns_come_out_customer_first_alternating_answer_last() -> None:
    assert turned(
        ("system", "Be kind."),
        ("assistant", "Hello, how can I help?"),
        ("user", "Where is"),
        ("user", "my parcel?"),
        ("assistant", ""),
        ("assistant", "Let me see."),
        ("assistant", "It is here."),
        ("user", "Thanks"),
    ) == [("system", "Be kind."), ("user", "Where is\nmy parcel?"), ("assistant", "Let me see.\nIt is here.")]


def test_long_conversations_end_with_the_last_answer_that_fits() -> None:
    turns: list[tuple[Role, str]] = [("user", "a"), ("assistant", "b")] * 5
    assert turned(*turns, max_turns=5) == turns[:4]


def test_an_answer_of_weight_0_is_no_reference() -> None:
    messages = (*said(("user", "a"), ("assistant", "good"), ("user", "b")), Message("assistant", "bad", weight=0.0))
    from collections import Counter

    assert arrange(messages, 40, Counter())[-1].content == "good"


def test_tool_traffic_stays_in_place_and_a_result_without_call_goes() -> None:
    from collections import Counter

    call = Message("assistant", "", tool_calls=(ToolCall("c1", FunctionCall("track", "{}")),))
    result = Message("tool", "{}", tool_call_id="c1")
    stray = Message("tool", "{}", tool_call_id="c9")
    messages = (*said(("user", "Where?")), stray, call, result, *said(("assistant", "Here.")))
    counts: Counter[str] = Counter()
    assert arrange(messages, 40, counts) == (messages[0], call, result, messages[-1])
    assert counts == {"tool results without a call removed": 1}
    ends_with_a_call = (*said(("user", "Hi"), ("assistant", "Hello"), ("user", "Where?")), call)
    assert arrange(ends_with_a_call, 40, Counter())[-1].content == "Hello"


def test_turns_that_all_have_one_speaker_are_told_apart_by_how_they_speak() -> None:
    said = [
        "My order never came and I want my money back, why is it so slow?",
        "I apologize, sir. Could you please share your order number so that we can assist you?",
        "its KV-10482, I paid for express and got nothing",
        "Thank you for providing that. Please allow our team two days; rest assured we will refund your order.",
    ]
    (kept,), trail = run_step("turns", [row("x", *(("assistant", text) for text in said))], DataSettings())
    assert [message.role for message in kept.example.messages] == ["user", "assistant"] * 2
    assert trail.changes["turns given to customer and agent by how they speak"] == 4
    # Where nothing tells, nobody guesses.
    unclear = [row("x", *(("assistant", text) for text in ("Yes.", "No.", "Maybe.", "Then.")))]
    assert run_step("turns", unclear, DataSettings())[0] == []


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([("user", "Hi"), ("user", "Anyone?")], "no answer to learn from"),
        ([("assistant", "Hi"), ("assistant", "Bye")], "no customer turn"),
        ([], "no customer turn"),
    ],
)
def test_conversations_without_two_sides_are_dropped_with_the_reason(turns: list[Any], reason: str) -> None:
    kept, trail = run_step("turns", [row("x", *turns)], DataSettings())
    assert kept == []
    assert [drop.reason for drop in trail.dropped] == [reason]


def test_min_turns_drops_short_conversations() -> None:
    kept, trail = run_step("turns", [exchange("x", "Hi", "Hello")], DataSettings(min_turns=3))
    assert (kept, trail.dropped[0].detail) == ([], "2 < 3")


ROLES: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant", "tool"])


@given(st.lists(st.tuples(ROLES, st.sampled_from(["", "a", "b c"])), max_size=12), st.integers(1, 6))
def test_arranging_is_idempotent_and_ends_with_an_answer_if_there_is_one(
    turns: list[tuple[Role, str]], max_turns: int
) -> None:
    once = turned(*turns, max_turns=max_turns)
    assert turned(*[(role, text) for role, text in once], max_turns=max_turns) == once  # type: ignore[misc]
    spoken = [role for role, _text in once if role in ("user", "assistant")]
    if "user" in spoken and "assistant" in spoken:
        assert once[-1][0] == "assistant"
        assert spoken[0] == "user"
        assert len(spoken) <= max_turns


GERMAN = "Guten Tag, wo bleibt meine Bestellung? Die Ware sollte schon gestern ankommen."


def test_language_drops_what_is_surely_another_one_and_keeps_the_doubtful() -> None:
    rows = [
        exchange("german", GERMAN, "It will arrive today, we are sorry for the delay."),
        exchange("spanish", "Quiero cancelar mi pedido, todavía está en Received.", "Claro."),
        exchange("english", "Hello, where is my parcel? It should have come yesterday.", "Hier."),
        exchange("short", "PS5 stock?", "No."),
        exchange("slang", "plz tell me whr is my ordr yaar", "On its way."),
        exchange("number", "1234567", "Thanks."),
    ]
    kept, trail = run_step("language", rows, DataSettings())
    assert ids(kept) == ["english", "short", "slang", "number"]
    assert trail.drops == {"language de": 1, "language es": 1}


def test_languages_named_are_kept_and_none_named_keeps_all() -> None:
    rows = [exchange("german", GERMAN, "Heute.")]
    assert run_step("language", rows, DataSettings(languages=["de", "en"]))[0] == rows
    assert run_step("language", rows, DataSettings(languages=[]))[0] == rows
    with pytest.raises(ConfigError, match="'english' is not a language code"):
        run_step("language", rows, DataSettings(languages=["english"]))


def test_placeholders_and_links_tell_no_language() -> None:
    assert detect("[ORDER_NUMBER_1] https://www.beispiel.example/wo-ist-meine-bestellung 12345 78 90")[0] == ""


def test_exact_duplicates_keep_the_first_whatever_case_and_punctuation() -> None:
    rows = [
        exchange("a", "Where is it?", "Here."),
        exchange("b", "where IS it", "here!"),
        exchange("c", "Where?", "Here"),
    ]
    kept, trail = run_step("exact_duplicates", rows, DataSettings())
    assert ids(kept) == ["a", "c"]
    assert trail.dropped[0].detail == "the same as a"


LONG = (
    "My coffee machine leaks water from the bottom and I would like to know whether the warranty covers that repair, "
    "because it is only eleven months old and I have never used anything but filtered water in it"
)


def test_near_duplicates_keep_the_longest_of_a_chain() -> None:
    rows = [
        exchange("a", LONG, "Yes, it does."),
        exchange("b", LONG + " today", "Yes, it does."),
        exchange("c", LONG + " today or tomorrow", "Yes, it does."),
        exchange("d", "Something else entirely, about beans and grinders this time", "Sure, tell me."),
    ]
    kept, trail = run_step("near_duplicates", rows, DataSettings())
    assert ids(kept) == ["c", "d"]
    assert {drop.row.id for drop in trail.dropped} == {"a", "b"}
    assert ids(run_step("near_duplicates", rows, DataSettings(near_duplicate_threshold=1))[0]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("step", "question"), [("exact_duplicates", LONG), ("near_duplicates", LONG + " please")])
def test_what_repeats_a_held_out_row_leaves_as_contamination_and_the_held_out_stay(step: str, question: str) -> None:
    rows = [
        exchange("train", LONG, "Yes."),
        exchange("test", question, "Yes.", held_out=True),
        exchange("test2", question, "Yes.", held_out=True),
    ]
    kept, trail = run_step(step, rows, DataSettings())
    assert ids(kept) == ["test", "test2"]
    assert trail.drops == {"contamination": 1}
    apart = [exchange("train", "Another thing altogether, is that so?", "No."), *rows[1:]]
    assert ids(run_step(step, apart, DataSettings())[0]) == ["train", "test", "test2"]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.99])
def test_the_index_misses_at_most_one_pair_in_a_thousand_at_the_threshold(threshold: float) -> None:
    bands, rows = bands_for(threshold)
    assert bands * rows <= PERMUTATIONS
    assert (1 - threshold**rows) ** bands <= 1e-3


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=4, max_size=12), min_size=2, max_size=12))
def test_links_are_what_comparing_every_pair_gives(texts: list[list[str]]) -> None:
    rows = [exchange(str(number), " ".join(words), "fine thanks") for number, words in enumerate(texts)]
    threshold = 0.6
    with tempfile.TemporaryDirectory() as folder:
        corpus = corpus_of(rows, Path(folder), DataSettings(near_duplicate_threshold=threshold))
        sets = [shingles(corpus.columns.words(place)) for place in range(len(rows))]
        links = link_near_duplicates(corpus, threshold).links
        corpus.close()
    # Similarities near the threshold may be missed once in a thousand; far above it, never here.
    for one in range(len(sets)):
        for other in range(one):
            if jaccard(sets[one], sets[other]) >= 0.85:
                assert links.find(one) == links.find(other)
    for members in links.clusters():
        for place in members[1:]:
            assert any(jaccard(sets[place], sets[other]) >= threshold for other in members if other != place)
