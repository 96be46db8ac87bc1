"""Claims about the fictional support data in examples/support."""

import collections
import csv
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).resolve().parents[2] / "examples" / "support"
Row = dict[str, Any]


def grams(text: str) -> set[tuple[str, ...]]:
    """The word 5-grams of a text, without case and punctuation."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}


def customer_text(row: Row) -> str:
    return "\n".join(m["content"] for m in row["messages"] if m["role"] == "user")


def read_lines(name: str) -> tuple[list[Row], list[int]]:
    """The rows of a JSONL file and the numbers of its lines that are not JSON."""
    rows: list[Row] = []
    broken: list[int] = []
    for number, line in enumerate((SUPPORT / name).read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            broken.append(number)
    return rows, broken


@pytest.fixture(scope="module")
def exported() -> tuple[list[Row], list[int]]:
    return read_lines("conversations.jsonl")


@pytest.fixture(scope="module")
def training(exported: tuple[list[Row], list[int]]) -> list[Row]:
    """Every training conversation, from the JSONL file and the CSV file."""
    table: dict[str, Row] = {}
    with (SUPPORT / "helpdesk.csv").open(encoding="utf-8", newline="") as handle:
        for line in csv.DictReader(handle):
            row = table.setdefault(
                line["conversation_id"],
                {"messages": [], "metadata": {"ticket": line["conversation_id"], "intent": line["intent"]}},
            )
            row["messages"].append({"role": line["role"], "content": line["content"]})
    return exported[0] + list(table.values())


@pytest.fixture(scope="module")
def tests() -> list[Row]:
    rows, broken = read_lines("test.jsonl")
    assert not broken
    return rows


@pytest.fixture(scope="module")
def dirt() -> dict[str, Any]:
    return dict(json.loads((SUPPORT / "DIRT.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def by_ticket(training: list[Row]) -> dict[str, Row]:
    return {row["metadata"]["ticket"]: row for row in training}


def test_the_generator_reproduces_every_file() -> None:
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "generate.py"), "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_enough_help_pages_of_a_readable_length() -> None:
    pages = sorted((SUPPORT / "docs").glob("*.md"))
    assert len(pages) >= 42
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert (text.startswith("# ") and "\n## " in text) or "\n| " in text, page.name
        assert 80 <= len(text.split()) <= 400, page.name


def test_there_are_enough_conversations_and_intents(training: list[Row], exported: tuple[list[Row], list[int]]) -> None:
    assert len(exported[0]) >= 900
    assert len(training) - len(exported[0]) == 120
    counts = collections.Counter(row["metadata"]["intent"] for row in training)
    counts.pop("other")
    assert len(counts) >= 24
    assert min(counts.values()) >= 15


def test_conversations_have_a_natural_length(training: list[Row]) -> None:
    assert statistics.median(len(row["messages"]) for row in training) == 4
    tokens = [1.35 * sum(len(m["content"].split()) for m in row["messages"]) for row in training]
    assert 110 <= statistics.mean(tokens) <= 170
    assert max(len(row["messages"]) for row in training) <= 10


def test_turns_alternate_and_clean_conversations_end_with_an_answer(training: list[Row], dirt: dict[str, Any]) -> None:
    unanswered = set(dirt["tickets"]["unanswered"])
    for row in training:
        roles = [m["role"] for m in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
        assert (roles[-1] == "user") == (row["metadata"]["ticket"] in unanswered)


def test_the_test_set_has_120_clean_conversations_over_all_intents(training: list[Row], tests: list[Row]) -> None:
    intents = {row["metadata"]["intent"] for row in training} - {"other"}
    assert len(tests) == 120
    assert {row["metadata"]["intent"] for row in tests} == intents
    for row in tests:
        text = customer_text(row)
        assert row["messages"][-1]["role"] == "assistant"
        assert not re.search(r"KV-\d|@|â€|<|\d{7}", text)
    assert 25 <= statistics.mean(len(row["messages"][-1]["content"].split()) for row in tests) <= 45


def test_the_test_set_is_not_a_paraphrase_of_the_training_set(training: list[Row], tests: list[Row]) -> None:
    shapes = [grams(customer_text(row)) for row in training]
    holders: dict[tuple[str, ...], set[int]] = collections.defaultdict(set)
    for at, shape in enumerate(shapes):
        for gram in shape:
            holders[gram].add(at)
    contained, jaccard = [], []
    for row in tests:
        shape = grams(customer_text(row))
        hits = collections.Counter(at for gram in shape for at in holders.get(gram, ()))
        contained.append(max((count / len(shape) for count in hits.values()), default=0.0))
        jaccard.append(max((count / len(shape | shapes[at]) for at, count in hits.items()), default=0.0))
    assert max(contained) < 0.5
    assert statistics.mean(contained) < 0.15
    assert max(jaccard) < 0.5
    assert statistics.mean(jaccard) < 0.15
    print(f"containment max {max(contained):.3f} mean {statistics.mean(contained):.4f}")
    print(f"jaccard max {max(jaccard):.3f} mean {statistics.mean(jaccard):.4f}")


def test_no_reference_answer_occurs_in_training(training: list[Row], tests: list[Row]) -> None:
    answers = {m["content"] for row in training for m in row["messages"] if m["role"] == "assistant"}
    references = [row["messages"][-1]["content"] for row in tests]
    assert not answers & set(references)
    assert len(set(references)) == len(references)


def test_training_conversations_differ_beyond_the_planted_duplicates(training: list[Row], dirt: dict[str, Any]) -> None:
    planted = set(dirt["tickets"]["exact_duplicate"])
    seen = [json.dumps(row["messages"]) for row in training if row["metadata"]["ticket"] not in planted]
    assert len(set(seen)) == len(seen)


def test_the_account_of_the_dirt_matches_the_files(
    by_ticket: dict[str, Row], exported: tuple[list[Row], list[int]], dirt: dict[str, Any]
) -> None:
    assert dirt["conversations"] == len(by_ticket)
    assert dirt["broken_json_line_numbers"] == exported[1]
    assert 3 <= dirt["counts"]["broken_json_lines"] == len(exported[1]) <= 5
    for kind, tickets in dirt["tickets"].items():
        assert dirt["counts"][kind] == len(tickets) == len(set(tickets) & set(by_ticket)), kind


def test_the_readme_states_the_counts(dirt: dict[str, Any]) -> None:
    readme = (SUPPORT / "README.md").read_text(encoding="utf-8")
    table = [int(number) for number in re.findall(r"\| (\d+) \|$", readme, flags=re.MULTILINE)]
    assert table == list(dirt["counts"].values())


def test_planted_duplicates_repeat_their_originals(by_ticket: dict[str, Row], dirt: dict[str, Any]) -> None:
    for ticket, origin in dirt["duplicate_of"].items():
        one, other = by_ticket[ticket]["messages"], by_ticket[origin]["messages"]
        if ticket in dirt["tickets"]["exact_duplicate"]:
            assert one == other
        else:
            assert ticket in dirt["tickets"]["near_duplicate"]
            assert one != other
            words, others = (set(" ".join(m["content"] for m in row).split()) for row in (one, other))
            assert len(words & others) / len(words | others) > 0.7


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("personal_order_number", r"KV-\d{6}"),
        ("personal_email", r"[\w.-]+@example\.(?:com|org|net)\b"),
        ("mojibake", r"â€|â‚¬|Â°|Ã"),
        ("markup", r"&(?:amp|nbsp|quot|#39);|<(?:p|div|br)>"),
    ],
)
def test_patterned_dirt_is_where_the_account_says_and_nowhere_else(
    kind: str, pattern: str, by_ticket: dict[str, Row], dirt: dict[str, Any]
) -> None:
    def text(row: Row) -> str:
        every = "\n".join(m["content"] for m in row["messages"])
        return customer_text(row) if kind.startswith("personal") else every

    found = {ticket for ticket, row in by_ticket.items() if re.search(pattern, text(row))}
    assert found == set(dirt["tickets"][kind])


def test_planted_card_numbers_pass_the_luhn_check(by_ticket: dict[str, Row], dirt: dict[str, Any]) -> None:
    for ticket in dirt["tickets"]["personal_card"]:
        runs = re.findall(r"\d[\d ]{13,}\d", customer_text(by_ticket[ticket]))
        digits = [int(digit) for digit in runs[0].replace(" ", "")][::-1]
        total = sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
        assert total % 10 == 0


def test_empty_turns_are_where_the_account_says(by_ticket: dict[str, Row], dirt: dict[str, Any]) -> None:
    found = {ticket for ticket, row in by_ticket.items() if not all(m["content"].strip() for m in row["messages"])}
    assert found == set(dirt["tickets"]["empty_turn"])


@pytest.fixture(scope="module")
def shop() -> Any:
    sys.path.insert(0, str(SUPPORT))
    try:
        from generator import catalogue  # type: ignore[import-not-found, unused-ignore]
    finally:
        sys.path.remove(str(SUPPORT))
    return catalogue


def test_prices_in_answers_occur_in_the_catalogue(
    tests: list[Row], training: list[Row], dirt: dict[str, Any], shop: Any
) -> None:
    known = shop.known_prices()
    skip = set(dirt["tickets"]["mojibake"]) | set(dirt["tickets"]["other_language"])
    for row in training + tests:
        if row["metadata"]["ticket"] in skip or row["metadata"]["intent"] == "loyalty_points":
            continue
        for message in row["messages"]:
            if message["role"] == "assistant":
                assert set(re.findall(r"€\d+(?:\.\d\d)?", message["content"])) <= known, message["content"]


def test_the_help_pages_state_the_facts_of_the_catalogue(shop: Any) -> None:
    def page(name: str) -> str:
        return (SUPPORT / "docs" / f"{name}.md").read_text(encoding="utf-8")

    for country in shop.COUNTRIES.values():
        assert f"{country.days} | {country.cost} | €{country.free_from}" in page("shipping-costs-and-times")
    for product in shop.PRODUCTS.values():
        own = page(product.name.lower().replace(" ", "-"))
        assert f"Price: €{product.price}." in own
        assert f"Warranty {product.warranty} years" in own
        assert f"| {product.name} | €{product.repair} |" in page("repairs")
    for code, (meaning, _, _) in shop.ERRORS.items():
        assert f"| {code} | {meaning} |" in page("error-codes")
    for name, (_, minutes) in shop.DESCALING.items():
        assert re.search(rf"\| {name} \| .* \| {minutes} \|", page("descaling"))


def test_answers_about_error_codes_follow_the_code(tests: list[Row], shop: Any) -> None:
    for row in tests:
        if row["metadata"]["intent"] == "error_code":
            code = re.search(r"\bE\d\b", row["messages"][0]["content"])
            assert code
            assert shop.ERRORS[code.group()][0] in row["messages"][1]["content"]
