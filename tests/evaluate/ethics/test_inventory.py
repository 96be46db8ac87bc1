"""Every planted secret is named with its file and row; ordinary talk is not."""

import re

import pytest

from vivace.config.data import DataSettings
from vivace.domain import Example, Message
from vivace.evaluate.ethics.inventory import by_line, find_secrets
from vivace.loop.evaluate.ethics import personal_finder

PLANTED = [
    ("api_key", "sk-proj-4fT9xQ2mLk8Rw3Zb7Yc1", "Your key is {}, keep it safe."),
    ("api_key", "AKIA4QW7RT2ZXM5PLK8D", "aws id {}"),
    ("api_key", "ghp_a8Kd0Qm2Zs5Xv7Bn9Lc3Jf6Hg1Pt4Rw0Ye", "push with {}"),
    ("api_key", "9f8e7d6c5b4a39281706", "The API key is {}."),
    ("card", "4556 7375 8689 9855", "charge {} please"),
    ("card", "5425233430109903", "my card {}"),
    ("iban", "DE89 3704 0044 0532 0130 00", "refund to {}"),
    ("iban", "GB29NWBK60161331926819", "account {} thanks"),
    ("password", "Sunny-Tiger42", "Your password is {}."),
    ("password", "hunter2!x", "login bob, password: {}"),
    ("password", "Qw3rty_2024", "The password has been reset to {}."),
    ("phone", "+44 20 7946 0958", "call me at {}"),
    ("phone", "(977) 625-2661", "my phone is {}"),
    ("order_number", "KV-10482", "order {} is late"),
    ("order_number", "502-2345678-9012345", "order number {}"),
    ("email", "maria.silva@example.net", "write to {}"),
    ("address", "221 Baker Street, London", "send it to {}"),
    ("address", "742 Evergreen Terrace", "I live at {}"),
    ("pin", "4482", "the PIN is {}"),
    ("national_id", "536-90-4399", "SSN {}"),
]
TALK = [
    "I ordered 2 shirts for $45.50 on 12/03/2024 and they came in size 38.",
    "My password is not working, please reset it.",
    "The password was wrong and the pin is missing. Is it 3 pm?",
    "Please go to the street and drive 20 minutes that way.",
    "See https://www.example.com/help/returns for our policy, valid for 30 days.",
    "Your password is [PASSWORD_1] and the API key is xxxxxxxxxxxxxxxx.",
    "I can offer 20% off until the end of the month.",
    "self-service-return-policy-for-customers",
]


def rows(texts: list[str]) -> list[Example]:
    return [
        Example(
            f"e{number}", (Message("user", "help"), Message("assistant", text)), "train", source=f"chats.jsonl:{number}"
        )
        for number, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def personal():
    return personal_finder(DataSettings())


def test_each_of_twenty_planted_secrets_is_named_with_its_file_and_row(personal) -> None:
    assert len(PLANTED) == 20
    texts = [sentence.format(secret) for _kind, secret, sentence in PLANTED]
    padded = [text for planted in texts for text in (*TALK, planted)]
    found = find_secrets(rows(padded), personal)
    by_source = {each.source: each for each in found}
    for number, (kind, secret, _sentence) in enumerate(PLANTED):
        source = f"chats.jsonl:{number * (len(TALK) + 1) + len(TALK)}"
        assert source in by_source, f"{secret} is not named"
        assert (by_source[source].kind, by_source[source].value) == (kind, secret)
        assert by_source[source].turn == 1
        assert by_source[source].role == "assistant"
    assert len(found) == 20


@pytest.mark.parametrize("text", TALK)
def test_ordinary_talk_holds_no_secret(text: str, personal) -> None:
    assert find_secrets(rows([text]), personal) == []


def test_a_secret_is_told_once_with_how_often_it_occurs_and_veiled(personal) -> None:
    (found,) = find_secrets(rows(["password: Sunny-Tiger42", "hi", "your password is Sunny-Tiger42."]), personal)
    assert (found.occurrences, found.source) == (2, "chats.jsonl:0")
    (line,) = by_line([found])
    assert "Sunny-Tiger42" not in line
    assert "chats.jsonl:0, turn 2 (assistant), 2 times" in line
    assert re.search(r"password Su•••-•••••••", line)


def test_without_rules_for_personal_data_ours_are_still_there() -> None:
    assert [each.kind for each in find_secrets(rows(["password: Sunny-Tiger42", "mail a@example.net"]))] == ["password"]
