"""Assembles the export: training conversations, dirt, test set, help pages and the account of the dirt."""

import csv
import io
import json
import random
import re
from datetime import datetime, timedelta

from generator import dirt
from generator.dialogue import Conversation, Writer
from generator.documents import pages

SEED = 20260901
PER_INTENT = 34
TEST_SIZE = 120
CSV_SIZE = 120
CARD_INTENTS = ("payment_failed", "refund_status", "cancel_order", "subscription_cancel")
CHANNELS = ("chat", "chat", "chat", "email", "email", "form")
ORDER_NUMBER = re.compile(r"KV-\d{6}")
CARD_NUMBER = re.compile("|".join(map(re.escape, dirt.CARDS)))
EMAIL = re.compile(r"[\w.-]+@example\.(?:com|org|net)\b")


def build() -> dict[str, str]:
    """Return every generated file as text by its path below the example folder."""
    rng = random.Random(SEED)
    writer = Writer(rng)
    base = [writer.training(name) for name in writer.intents for _ in range(PER_INTENT)]
    rng.shuffle(base)
    records = plant(base, rng)
    stamp(records, datetime(2025, 9, 1, 8), 20411, 365, rng)
    tests = test_set(writer, rng)
    stamp(tests, datetime(2026, 9, 1, 8), 31002, 30, rng)
    table = sorted(
        rng.sample([r for r in records if r.dirt <= {"email_planted", "phone_planted", "order_planted"}], CSV_SIZE),
        key=lambda record: record.ticket,
    )
    in_table = {record.ticket for record in table}
    lines, broken = with_broken_lines([r for r in records if r.ticket not in in_table], rng)
    files = {f"docs/{name}": text for name, text in pages().items()}
    files["conversations.jsonl"] = "\n".join(lines) + "\n"
    files["helpdesk.csv"] = as_table(table)
    files["test.jsonl"] = "".join(as_line(test) + "\n" for test in tests)
    files["DIRT.json"] = json.dumps(account(records, broken), indent=1, ensure_ascii=False) + "\n"
    return files


def plant(base: list[Conversation], rng: random.Random) -> list[Conversation]:
    """Add personal data, damage and strays to clean conversations, then the duplicates."""
    about_money = [conversation for conversation in base if conversation.intent in CARD_INTENTS]
    with_card = rng.sample(about_money, 13)
    for conversation in with_card:
        dirt.add_personal(conversation, "card", rng)
    for conversation in rng.sample([conversation for conversation in base if not conversation.dirt], 178):
        dirt.add_personal(conversation, rng.choices(("email", "phone", "order"), (34, 28, 38))[0], rng)
    pool = [conversation for conversation in base if not conversation.dirt]
    rng.shuffle(pool)
    long = [conversation for conversation in pool if len(conversation.messages) >= 4]
    for conversation in long[:12]:
        dirt.empty_turn(conversation, rng)
    for conversation in long[12:18]:
        dirt.unanswered(conversation, rng)
    pool = [conversation for conversation in pool if not conversation.dirt]
    for conversation in pool[:34]:
        dirt.break_encoding(conversation, rng)
    clean = [conversation for conversation in pool if not conversation.dirt]
    doubled = dirt.copies(clean[:200], rng, 34) + dirt.near_copies(clean[200:], rng, 46)
    strays = dirt.strays()
    records = list(base)
    for stray in strays:
        records.insert(rng.randrange(len(records)), stray)
    for double in doubled:
        after = next(at for at, record in enumerate(records) if record is double.origin)
        records.insert(min(len(records), after + rng.randint(1, 4)), double)
    return records


def stamp(records: list[Conversation], start: datetime, ticket: int, days: int, rng: random.Random) -> None:
    """Give the conversations times in opening hours, rising tickets, channels and customers."""
    moments = sorted(_moment(start, days, rng) for _ in records)
    for record, moment in zip(records, moments, strict=True):
        ticket += rng.randint(1, 4)
        record.ticket = f"T-{ticket}"
        record.opened_at = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        record.channel = rng.choice(CHANNELS)
        record.customer = (
            record.origin.customer if record.origin and record.origin.customer else f"c-{rng.randint(1040, 1990)}"
        )


def _moment(start: datetime, days: int, rng: random.Random) -> datetime:
    while True:
        moment = start + timedelta(days=rng.randrange(days), minutes=rng.randrange(600), seconds=rng.randrange(60))
        if moment.weekday() < 5 or (moment.weekday() == 5 and moment.hour < 13):
            return moment


def test_set(writer: Writer, rng: random.Random) -> list[Conversation]:
    """Write the held-out conversations from their own wordings, the same number for every intent."""
    each = TEST_SIZE // len(writer.intents)
    tests = [
        writer.testing(name, opening)
        for name, intent in writer.intents.items()
        for opening in rng.sample(intent.test, each)
    ]
    rng.shuffle(tests)
    return tests


def as_line(record: Conversation) -> str:
    """One conversation as a JSON line."""
    metadata = {
        "ticket": record.ticket,
        "intent": record.intent,
        "opened_at": record.opened_at,
        "channel": record.channel,
        "customer": record.customer,
    }
    return json.dumps({"messages": record.messages, "metadata": metadata}, ensure_ascii=False)


def with_broken_lines(records: list[Conversation], rng: random.Random) -> tuple[list[str], list[int]]:
    """Write the lines and insert four that an interrupted export cut off; return their numbers too."""
    lines = [as_line(record) for record in records]
    places = sorted(rng.sample(range(40, len(lines) - 40), 4))
    for shift, place in enumerate(places):
        whole = lines[place + shift]
        lines.insert(place + shift, whole[: rng.randint(60, len(whole) - 40)])
    return lines, [place + shift + 1 for shift, place in enumerate(places)]


def as_table(records: list[Conversation]) -> str:
    """Conversations as one CSV row per message."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("conversation_id", "role", "content", "intent", "opened_at"))
    for record in records:
        for message in record.messages:
            rows.writerow((record.ticket, message["role"], message["content"], record.intent, record.opened_at))
    return out.getvalue()


def account(records: list[Conversation], broken: list[int]) -> dict[str, object]:
    """List what was planted: counts, tickets, pairs of duplicates and broken lines."""
    kinds = (
        "exact_duplicate",
        "near_duplicate",
        "mojibake",
        "markup",
        "off_topic",
        "other_language",
        "empty_turn",
        "unanswered",
    )
    tickets = {kind: [record.ticket for record in records if kind in record.dirt] for kind in kinds}
    personal: dict[str, list[str]] = {"email": [], "phone": [], "order_number": [], "card": []}
    for record in records:
        text = "\n".join(m["content"] for m in record.messages if m["role"] == "user")
        hits = {
            "email": bool(EMAIL.search(text)),
            "order_number": bool(ORDER_NUMBER.search(text)),
            "card": bool(CARD_NUMBER.search(text)),
            "phone": "phone_planted" in record.dirt or bool(record.origin and "phone_planted" in record.origin.dirt),
        }
        for kind, hit in hits.items():
            if hit:
                personal[kind].append(record.ticket)
    pairs = {record.ticket: record.origin.ticket for record in records if record.origin}
    everything = {**tickets, **{f"personal_{kind}": found for kind, found in personal.items()}}
    anyone = sorted({ticket for found in personal.values() for ticket in found})
    return {
        "conversations": len(records),
        "counts": {
            **{kind: len(found) for kind, found in everything.items()},
            "personal_any": len(anyone),
            "broken_json_lines": len(broken),
        },
        "duplicate_of": pairs,
        "broken_json_line_numbers": broken,
        "tickets": everything,
    }
