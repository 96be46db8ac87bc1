"""Personal data: what is found, what is not, and that placeholders are consistent."""

import ipaddress
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.planted import PLANTS
from vivace.config.data import DataSettings
from vivace.data.privacy.payment import IBAN_LENGTHS, iban_valid, luhn_valid
from vivace.data.privacy.redaction import Redactor, with_contacts_of
from vivace.domain import Example, FunctionCall, Message, ToolCall
from vivace.errors import ConfigError

REDACTOR = Redactor(DataSettings())


def redact(text: str, before: str = "") -> str:
    return REDACTOR.conversation().text(text, before)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Write to Jane.Doe+shop@mail.example.co.uk.", "Write to [EMAIL_1]."),
        ("(jane@example.com) or <joe@example.com>", "([EMAIL_1]) or <[EMAIL_2]>"),
        ("Call +44 20 7946 0958 today", "Call [PHONE_1] today"),
        ("Call +49 (0)30 901820, please", "Call [PHONE_1], please"),
        ("It is (977) 625-2661.", "It is [PHONE_1]."),
        ("or 977-625-2661 ext. 12", "or [PHONE_1]"),
        ("my mobile is 9876543210", "my mobile is [PHONE_1]"),
        ("Call me on 06-55506811 if that is quicker", "Call me on [PHONE_1] if that is quicker"),
        ("06 12 34 56 78", "[PHONE_1]"),
        ("Mobile: 98765 43210", "Mobile: [PHONE_1]"),
        ("card 4242 4242 4242 4242 expired", "card [CARD_1] expired"),
        ("Amex 3782-822463-10005", "Amex [CARD_1]"),
        ("5555555555554444", "[CARD_1]"),
        ("DE89 3704 0044 0532 0130 00 then", "[IBAN_1] then"),
        ("to gb29nwbk60161331926819.", "to [IBAN_1]."),
        ("ES91 2100 0418 4502 0005 1332 from me", "[IBAN_1] from me"),
        ("I came from 203.0.113.77.", "I came from [IP_ADDRESS_1]."),
        ("from 2001:db8:85a3::8a2e:370:7334", "from [IP_ADDRESS_1]"),
        (
            "https://shop.example/reset?lang=en&token=ab12cd34 please",
            "https://shop.example/reset?lang=en&token=[URL_TOKEN_1] please",
        ),
        ("https://jane:secret@shop.example/", "https://[URL_TOKEN_1]@shop.example/"),
    ],
)
def test_personal_data_is_found(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "It costs $1,299.00, that is 2 x 649.50 or €1.299,00",
        "Order 502-2345678-9012345 and order #3348917502",
        "My account number is 9931939443153 and my PIN is 3100",
        "order number 977-625-2661",
        "Order #2345-6789-1011-1213",  # right check digit, in Mastercard's range
        "tracking 1Z999AA10123456784",
        "It was on 2024-11-05 at 10:30:15, or 05/11/2024",
        "call me on 2024-11-05",
        "Open 9-5, rooms 101-110, size 10.5-11.5, batch 20240515",
        "Router at 192.168.1.1 or 127.0.0.1, mask 255.255.255.0",
        "firmware 4.12.1.8 fixes it, version 10.20.30.40",
        "use std::vector or a::b",
        "4242 4242 4242 4241",  # wrong check digit
        "DE89 3704 0044 0532 0130 01",  # wrong check digits
        "me @ home, 5@3, @handle",
        "https://shop.example/help/returns?page=2&sort=price",
        "ASIN B0C7SGJ7Q4, IMEI 354321098765432",
        "KV-379351",
    ],
)
def test_ordinary_numbers_and_links_stay(text: str) -> None:
    assert redact(text) == text


def test_the_question_before_decides_about_plain_digits() -> None:
    assert redact("its 9876543210", "Please confirm your registered mobile number.") == "its [PHONE_1]"
    assert redact("9876543210", "The phone number associated with this order?") == "[PHONE_1]"
    assert redact("9876543210", "Please tell me your order number.") == "9876543210"
    assert redact("354321098765432", "What is the IMEI number of the phone?") == "354321098765432"


def test_a_value_keeps_its_placeholder_through_the_conversation() -> None:
    call = ToolCall("c1", FunctionCall("call_back", '{"phone": "+1 977 625 2661", "tries": 2}'))
    example = Example(
        "x",
        (
            Message("user", "I am JANE@example.com, phone (977) 625-2661"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", '{"mail": "jane@example.com", "digits": 9776252661}'),
            Message("assistant", "I have 9776252661 and jane@example.com, and for Joe joe@example.com."),
        ),
        metadata={"customer": "jane@example.com", "phones": ["977.625.2661"], "age": 44},
    )
    redacted = REDACTOR.conversation().example(example)
    assert redacted.messages[0].content == "I am [EMAIL_1], phone [PHONE_1]"
    assert json.loads(redacted.messages[1].tool_calls[0].function.arguments) == {"phone": "[PHONE_1]", "tries": 2}
    assert json.loads(redacted.messages[2].content) == {"mail": "[EMAIL_1]", "digits": "[PHONE_1]"}
    assert redacted.messages[3].content == "I have [PHONE_1] and [EMAIL_1], and for Joe [EMAIL_2]."
    assert redacted.metadata == {"customer": "[EMAIL_1]", "phones": ["[PHONE_1]"], "age": 44}
    assert REDACTOR.conversation().example(redacted) == redacted


def test_a_number_that_only_metadata_or_a_tool_call_explains_is_found_in_the_turns() -> None:
    call = ToolCall("c1", FunctionCall("call_back", '{"phone": "9776252661"}'))
    turns = (Message("user", "9776252661"), Message("assistant", "Got it: 8885550123", tool_calls=(call,)))
    redacted = REDACTOR.conversation().example(Example("x", turns, metadata={"phone_number": "888 555 0123"}))
    assert [message.content for message in redacted.messages] == ["[PHONE_1]", "Got it: [PHONE_2]"]
    assert json.loads(redacted.messages[1].tool_calls[0].function.arguments) == {"phone": "[PHONE_1]"}
    assert redacted.metadata == {"phone_number": "[PHONE_2]"}


def test_rejected_turns_share_the_placeholders() -> None:
    example = Example(
        "x",
        (Message("user", "I am jane@example.com"), Message("assistant", "Hi")),
        rejected=(Message("assistant", "joe@example.com, not jane@example.com"),),
    )
    redacted = REDACTOR.conversation().example(example)
    assert redacted.rejected[0].content == "[EMAIL_2], not [EMAIL_1]"


@pytest.mark.parametrize("kind", sorted(PLANTS))
def test_planted_personal_data_is_found_whole(kind: str) -> None:
    rng = random.Random(7)
    plants = [PLANTS[kind](rng) for _ in range(400)]
    found = sum(redact(text) == text.replace(value, f"[{kind.upper()}_1]") for text, value in plants)
    assert found >= 0.95 * len(plants)


def test_placeholders_of_an_earlier_redaction_are_not_given_out_again() -> None:
    example = Example("x", (Message("user", "I was [EMAIL_1], now joe@example.com"), Message("assistant", "Fine")))
    redacted = REDACTOR.conversation().example(example)
    assert redacted.messages[0].content == "I was [EMAIL_1], now [EMAIL_2]"


def test_only_the_kinds_named_are_redacted() -> None:
    text = "jane@example.com, (977) 625-2661, order AB-12345"
    only = Redactor(DataSettings(redact=["order_number"]))
    assert only.text(text) == "jane@example.com, (977) 625-2661, order [ORDER_NUMBER_1]"


def test_contacts_that_the_company_publishes_stay() -> None:
    settings = DataSettings(public_contacts=["@shop.example"])
    settings = with_contacts_of(settings, ["Our hotline: +31 20 794 0958, or mail help@other.example."])
    text = "Write to any@shop.example or HELP@other.example or call 020 794 0958, not jane@example.com"
    assert Redactor(settings).text(text).endswith("call 020 794 0958, not [EMAIL_1]")
    assert Redactor(settings).text(text).startswith("Write to any@shop.example or HELP@other.example")


def test_a_broken_order_number_pattern_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="order_number_pattern"):
        Redactor(DataSettings(order_number_pattern="("))


def with_check_digit(digits: str) -> str:
    return next(digits + last for last in "0123456789" if luhn_valid(digits + last))


WORDS = st.sampled_from(["", "Hello, ", "my data: ", "it is ", "(", "see "])
ENDS = st.sampled_from(["", ".", ", thanks", ")", " please", "\n", "?"])


@given(st.text("0123456789", min_size=14, max_size=14), st.sampled_from(["", " ", "-"]), WORDS, ENDS)
def test_every_visa_number_is_found_and_no_other_digit_passes(digits: str, sep: str, head: str, tail: str) -> None:
    card = with_check_digit("4" + digits)
    printed = sep.join(card[place : place + 4] for place in range(0, 16, 4))
    assert redact(head + printed + tail) == f"{head}[CARD_1]{tail}"
    wrong = card[:-1] + str((int(card[-1]) + 1) % 10)
    assert "CARD" not in redact(f"{head}{wrong}{tail}")


@given(st.sampled_from(sorted(IBAN_LENGTHS)), st.data(), st.booleans(), WORDS, ENDS)
def test_every_iban_is_found(country: str, data: st.DataObject, spaced: bool, head: str, tail: str) -> None:
    size = IBAN_LENGTHS[country] - 4
    account = data.draw(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=size, max_size=size))
    remainder = int("".join(str(int(char, 36)) for char in account + country + "00")) % 97
    iban = f"{country}{98 - remainder:02d}{account}"
    assert iban_valid(iban)
    printed = " ".join(iban[place : place + 4] for place in range(0, len(iban), 4)) if spaced else iban
    assert redact(head + printed + tail) == f"{head}[IBAN_1]{tail}"


FORMATS = st.sampled_from(
    ["+1 {}-{}-{}", "+1{}{}{}", "({}) {}-{}", "{}-{}-{}", "{}.{}.{}", "1-{}-{}-{}", "phone {}{}{}", "call {} {} {}"]
)


@given(FORMATS, st.integers(200, 999), st.integers(200, 999), st.integers(0, 9999), WORDS, ENDS)
def test_every_north_american_number_is_found(
    form: str, area: int, exchange: int, line: int, head: str, tail: str
) -> None:
    text = form.format(area, exchange, f"{line:04d}")
    lead = text[: text.index(" ") + 1] if text[0] in "pc" else ""
    assert redact(head + text + tail) == f"{head}{lead}[PHONE_1]{tail}"


@given(
    st.decimals(0, 10**7, places=2),
    st.sampled_from(["${:,}", "€ {}", "{} EUR", "{:,} dollars", "£{:,} off"]),
    WORDS,
    ENDS,
)
def test_no_price_is_taken_for_personal_data(amount: object, form: str, head: str, tail: str) -> None:
    text = head + form.format(amount) + tail
    assert redact(text) == text


@given(st.integers(10**5, 10**17), st.sampled_from(["order {}", "Order #{}", "tracking number {}", "ticket: {}"]), ENDS)
def test_no_order_number_is_taken_for_a_phone_or_card(number: int, form: str, tail: str) -> None:
    text = form.format(number) + tail
    assert redact(text) == text


@given(st.ip_addresses(v=4))
def test_an_address_is_redacted_unless_it_is_a_local_one(address: ipaddress.IPv4Address) -> None:
    local = address.is_loopback or address.is_link_local or address.is_multicast or address.is_reserved
    networks = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "0.0.0.0/8")
    local = local or any(address in ipaddress.IPv4Network(network) for network in networks)
    assert redact(f"I am at {address}.") == (f"I am at {address}." if local else "I am at [IP_ADDRESS_1].")


@given(st.text(st.characters(codec="utf-8"), max_size=120) | st.text("0123456789 -+().@:/ax", max_size=80))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(st.text(st.characters(codec="utf-8", exclude_characters="0123456789@"), max_size=200))
def test_text_without_digits_addresses_and_links_is_not_changed(text: str) -> None:
    if "://" not in text and "www." not in text.lower() and "eyJ" not in text:
        assert redact(text) == text
        example = Example("x", (Message("user", text), Message("assistant", text)))
        assert REDACTOR.conversation().example(example) is example


TEXTS = st.lists(
    st.sampled_from(
        [
            "jane@example.com",
            "joe@example.com",
            "[EMAIL_1]",
            "[EMAIL_7]",
            "[PHONE_2]",
            "call 977-625-2661",
            "977.625.2661",
            "it is 9776252661",
            "order 9776252661",
            "4242 4242 4242 4242",
            "and",
            "My name is Alexis.",
            "Alexis",
            "https://x.example/?token=ab1",
            "203.0.113.77",
            '{"phone": "9776252661"}',
            "[PERSON_3]",
            "Hi Alexis Doe,",
        ]
    ),
    min_size=1,
    max_size=5,
).map(" ".join)


@given(st.lists(TEXTS, min_size=1, max_size=5), st.sampled_from([(), ("person",)]))
def test_redacting_a_conversation_twice_changes_nothing_more(turns: list[str], more: tuple[str, ...]) -> None:
    redactor = Redactor(DataSettings.model_validate({"redact": [*DataSettings().redact, *more]}))
    roles = ("user", "assistant", "tool")
    messages = tuple(Message(roles[place % 3], text) for place, text in enumerate(turns))  # type: ignore[arg-type]
    once = redactor.conversation().example(Example("x", messages, metadata={"phone": turns[-1]}))
    assert redactor.conversation().example(once) == once
    # Placeholders that stood there before keep their number.
    for before, after in zip(messages, once.messages, strict=True):
        for placeholder in ("[EMAIL_1]", "[EMAIL_7]", "[PHONE_2]", "[PERSON_3]"):
            assert after.content.count(placeholder) >= before.content.count(placeholder)


ORDERS = DataSettings(redact=["order_number"])


@pytest.mark.parametrize(
    ("turns", "clean"),
    [
        (["My order number is 502-2345678-9012345."], ["My order number is [ORDER_NUMBER_1]."]),
        (
            ["order id: #171-234567-123, tracking no AWB123456789"],
            ["order id: #[ORDER_NUMBER_1], tracking no [ORDER_NUMBER_2]"],
        ),
        (["its 1712345678"], ["its 1712345678"]),
        (["Your order number, please?", "its 1712345678"], ["Your order number, please?", "its [ORDER_NUMBER_1]"]),
        (
            ["Order KV-10482 is late", "I looked at kv-10482 for you."],
            ["Order [ORDER_NUMBER_1] is late", "I looked at [ORDER_NUMBER_1] for you."],
        ),
        (["I want to return 2 of them by 2025-05-06"], ["I want to return 2 of them by 2025-05-06"]),
        (["my order was 12000 rupees, order 2025-05-06"], ["my order was 12000 rupees, order 2025-05-06"]),
        (["The reference price is 1,299.00"], ["The reference price is 1,299.00"]),
    ],
)
def test_order_numbers_are_told_by_words_and_questions(turns: list[str], clean: list[str]) -> None:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[place % 2], turn) for place, turn in enumerate(turns))  # type: ignore[arg-type]
    redacted = Redactor(ORDERS).conversation().example(Example("x", messages))
    assert [message.content for message in redacted.messages] == clean
