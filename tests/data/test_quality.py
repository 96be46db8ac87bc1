"""The quality step: which answers nobody should learn, and which only look like those."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rooms import run_step
from vivace.config.data import DataSettings
from vivace.data import answers
from vivace.data.rows import Row
from vivace.data.toxicity import toxicity
from vivace.domain import Example, Message

QUESTION = "Where is my parcel with the order number 3348917502?"
FINE = "It left our warehouse this morning."


def reason_of(answer: str, question: str = QUESTION, rating: float | None = None, **settings: float) -> str:
    """Return why a conversation that ends with this answer is dropped, or nothing."""
    row = Row(Example("x", (Message("user", question), Message("assistant", answer)), rating=rating))
    kept, trail = run_step("quality", [row], DataSettings.model_validate(settings))
    assert len(kept) + len(trail.dropped) == 1
    assert all(dropped.detail and dropped.row == row.example for dropped in trail.dropped) or not answer.strip()
    return trail.dropped[0].reason if trail.dropped else ""


FAULTS = {
    "no answer": ["", "  \n"],
    "answer without a word": ["...", "👍", "?!"],
    "answer cut off": [
        "We have sent the parcel to the address that you gave us, which is",
        "We have sent the parcel yesterday and",
        "The parcel left on Monday, it should be there by Tuesday,",
        "These carriers deliver to you (",
        "Run this:\n```\nvivace data",
        ("We are very sorry " * 40)[:511] + "w",
    ],
    "gibberish answer": ["asdfghjkl", "asdf qwerty hjkl", "sdfgsdfg dfgjk"],
    "answer speaks as a language model": [
        "As an AI language model, I cannot see your order.",
        "As an AI, I don't have access to your orders.",
        "I'm just an AI assistant and can't look into orders.",
        "I was trained by OpenAI to be helpful.",
        "I cannot comply with that request.",
    ],
    "placeholder left in the answer": [
        "Dear {{customer.name}}, it left today.",
        "It left on [insert date here].",
        "Kind regards, [Your Name]",
        "Lorem ipsum dolor sit amet, consectetur.",
        "Please write to <insert e-mail>.",
    ],
    "answer repeats itself endlessly": [
        "We are sorry. " * 6,
        "Sorry " * 12,
        "It is late. " + "Please wait for the carrier to call you. " * 5,
        "N" + "o" * 40,
    ],
    "answer repeats the question": [QUESTION.lower()],
    "toxic answer": ["You are an idiot.", "Oh fuck off already.", "Shut up and wait."],
}


@pytest.mark.parametrize(("reason", "answer"), [(reason, text) for reason, texts in FAULTS.items() for text in texts])
def test_a_faulty_answer_is_dropped_with_its_reason(reason: str, answer: str) -> None:
    if reason != "answer cut off" or len(answer) != 512:
        assert reason_of(answer) == reason
    else:
        assert answers.cut_off(answer)


@pytest.mark.parametrize(
    "answer",
    [
        FINE,
        "Ok",
        "Yes",
        "42",
        "Yes 👍",
        "It left this morning",  # many people write without a full stop
        "Sorry about that :(",
        "Here is what you are looking for",
        "Kind regards,",
        "Hello,\nwe have sent it.\nBest regards,",
        "See https://shop.example/track?id=12,13",
        "Have you unplugged the damn router?",
        "You are not stupid, the page is hard to find.",
        "I am sorry, I can't help with that. Please ask your bank.",
        "As an AI company, we answer within a day.",
        "An AI assistant can help you at night.",
        "Write to [EMAIL_1] or call [PHONE_1].",
        "Read [the date](https://shop.example/dates).",
        "Write `{{customer.name}}` into your template.",
        "No, no, no, no, we will not charge you.",
        "Use HTTPS, SMTP, IMAP or TLS.",
        "- red\n- green\n- blue and\n- black",
        "退货请在14天内寄回",
    ],
)
def test_an_ordinary_answer_stays(answer: str) -> None:
    assert reason_of(answer) == ""


@pytest.mark.parametrize("text", ["Thank you!", "Hi"])
def test_a_greeting_may_be_returned_in_kind(text: str) -> None:
    assert reason_of(text, question=text) == ""


@pytest.mark.parametrize("question", ["fuck you all, you are idiots", "asdfghjkl", "???", "Sorry " * 20, "and the,"])
def test_a_customer_may_be_angry_and_short(question: str) -> None:
    assert reason_of(FINE, question=question) == ""


def test_the_limits_are_those_of_the_settings() -> None:
    assert reason_of("You are an idiot.", max_toxicity=1) == ""
    assert reason_of("Have you unplugged the damn router?", max_toxicity=0.4) == "toxic answer"
    assert reason_of(FINE, max_chars=20) == "longer than max_chars"


def test_rows_rated_as_bad_and_questions_without_answer_are_not_judged() -> None:
    assert reason_of("asdfghjkl", rating=0) == ""
    assert reason_of("asdfghjkl", rating=1) == "gibberish answer"
    query = Row(Example("q", (Message("user", "asdfghjkl"),)))
    assert run_step("quality", [query], DataSettings())[0] == [query]


def test_a_fault_in_an_earlier_answer_counts_unless_it_is_not_learned() -> None:
    turns = (Message("user", "Hi"), Message("assistant", "You are an idiot."), Message("user", "What?"))
    unlearned = (turns[0], Message("assistant", "You are an idiot.", weight=0), turns[2])
    rows = [Row(Example(str(n), (*head, Message("assistant", FINE)))) for n, head in enumerate((turns, unlearned))]
    kept, trail = run_step("quality", rows, DataSettings())
    assert kept == [rows[1]]
    assert trail.drops == {"toxic answer": 1}
    assert trail.dropped[0].detail == "0.97: you are an idiot"


@given(st.text(max_size=200))
def test_no_check_fails_on_any_text_and_each_quotes_what_it_found(text: str) -> None:
    for check in (answers.wordless, answers.cut_off, answers.as_language_model, answers.placeholder, answers.gibberish):
        assert check(text) in text or check is answers.gibberish or check is answers.placeholder
    answers.loop(text)
    assert 0 <= toxicity(text)[0] <= 1


@given(
    st.lists(st.sampled_from(["the", "red", "kettle", "order", "left", "and", "came", "back"]), min_size=1, max_size=5),
    st.integers(4, 9),
)
def test_every_phrase_said_often_enough_is_a_loop(phrase: list[str], times: int) -> None:
    said = len(phrase) * times
    assert bool(answers.loop(" ".join(phrase * times))) == (said >= answers.MIN_LOOP_WORDS)
