"""The dataset card as a page."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.data.material import chat, distinct, write_rows
from vivace.data.card.content import card_content
from vivace.data.card.facts import histogram
from vivace.data.card.page import write_card_page
from vivace.errors import DataError

HOSTILE = '<script>document.title="run"</script><img src=x onerror="document.title=\'run\'">'


def report() -> dict[str, Any]:
    steps = [
        {"step": "turns", "rows_in": 50, "rows_out": 45, "rows_changed": 3, "changes": {"empty turns removed": 3}},
        {"step": "near_duplicates", "rows_in": 45, "rows_out": 40, "rows_changed": 0, "changes": {}, "samples": []},
    ]
    return {
        "sources": [
            {
                "file": "exports/a.jsonl",
                "used_as": "conversations",
                "conversations": 50,
                "kept": 40,
                "sha256": "ab" * 32,
            },
            {"file": "docs/help.md", "used_as": "documents", "size_bytes": 2000, "sha256": "cd" * 32},
        ],
        "rejected": 2,
        "documents": 1,
        "steps": steps,
        "dropped_by_reason": {"near_duplicates: near-duplicate": 5, "turns: no answer": 5},
        "splits": {"train": {"examples": 32, "turns": 64, "approximate_tokens": 900}},
        "composition": {"conversations": 40, "fields": {"length": {"1-50 words": {"count": 40, "share": 1.0}}}},
        "diversity": {"answers": {"total": 40, "distinct": 39, "most_repeated": [["Thank you!", 2]]}, "vendi": 21.25},
        "warnings": ["10 questions make up 31 % of the training split."],
        "leakage": {"tested": 4, "removed": {"exact": 1, "near_duplicate": 0}, "left": 0},
        "settings": {"min_turns": 2, "languages": ["en"], "label": {"embedder": "minilm"}},
    }


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    splits = ["train"] * 8 + ["validation", "test"]
    rows = [
        {
            **distinct(number),
            "id": f"a:{number:02}",
            "source": f"exports/a.jsonl:{number}",
            "split": splits[number % 10],
            "metadata": {"intent": f"intent {number % 25:02}", "sentiment": "neutral"},
        }
        for number in range(40)
    ]
    for row in rows[:3]:
        row["metadata"] |= {"synthetic": True, "augmentation": "noise", "origin": "a:09"}
    write_rows(folder / "examples.jsonl", rows)
    drop = {"step": "turns", "reason": "no answer", "detail": "", "id": "a:77", "source": "a:1", "row": {"id": "a:77"}}
    write_rows(folder / "dropped.jsonl", [{**drop, "row": {"id": "a:77", **chat("Anybody there?")}}])
    write_rows(folder / "rejects.jsonl", [{"file": "exports/a.jsonl", "line": 9, "reason": "not JSON", "text": "{"}])
    (folder / "report.json").write_text(json.dumps(report()))
    return folder


class Page(HTMLParser):
    """What a page is made of: elements, addresses it asks for, text, and elements left open."""

    VOID = ("meta", "br", "link", "img", "line", "rect", "hr", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag not in self.VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(dataset: Path, root: Path | None = None) -> Page:
    write_card_page(dataset, root=root)
    return Page((dataset / "card.html").read_text())


def test_a_card_tells_sources_cleaning_composition_splits_and_samples(dataset: Path) -> None:
    page = page_of(dataset)
    assert page.open == []
    for told in (
        "exports/a.jsonl",
        "ab" * 32,
        "near_duplicates",
        "−5",
        "intent 00",
        "10 questions make up",
        "min_turns",
    ):
        assert told in page.text, told
    assert page.tags.count("article") == 6
    assert {"h1", "h2", "table", "caption", "th", "svg"} <= set(page.tags)
    markdown = (dataset / "card.md").read_text()
    for told in ("# Dataset ", "near\\_duplicates: near-duplicate | 5 |", "ab" * 32, "min_turns = 2"):
        assert told in markdown


def test_a_page_asks_for_nothing_from_outside_and_is_small(dataset: Path) -> None:
    page = page_of(dataset)
    assert page.addresses == []
    text = (dataset / "card.html").read_text()
    assert not re.search(r"https?://|url\(|@import", text)
    assert len(text) < 100_000


def test_text_of_conversations_is_shown_and_never_run(dataset: Path) -> None:
    rows = [
        {"id": f"{HOSTILE}{n}", **chat(HOSTILE, HOSTILE), "metadata": {"intent": HOSTILE + str(n)}, "source": HOSTILE}
        for n in range(6)
    ]
    write_rows(dataset / "examples.jsonl", rows)
    told = report()
    told |= {"warnings": [HOSTILE], "settings": {HOSTILE: HOSTILE}, "diversity": {HOSTILE: 1}}
    told["steps"][0] |= {"step": HOSTILE, "samples": [{"id": HOSTILE, "before": HOSTILE, "after": HOSTILE}]}
    (dataset / "report.json").write_text(json.dumps(told))
    write_rows(dataset / "suspects.jsonl", [{"id": HOSTILE, "text": HOSTILE, "label": HOSTILE, "suggested": HOSTILE}])
    page = page_of(dataset)
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count(HOSTILE) > 12
    assert "default-src 'none'" in (dataset / "card.html").read_text(), "and if it were there, it would not run"
    fences = re.findall(r"^```", (dataset / "card.md").read_text(), re.MULTILINE)
    assert len(fences) % 2 == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_a_browser_runs_no_script_of_a_conversation(dataset: Path) -> None:
    write_rows(dataset / "examples.jsonl", [{"id": "x", **chat(HOSTILE, HOSTILE)}])
    write_card_page(dataset)
    command = ["chromium", "--headless", "--no-sandbox", "--dump-dom", (dataset / "card.html").as_uri()]
    dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    assert title[1].startswith("Dataset ")


def test_the_same_files_give_the_same_bytes(dataset: Path) -> None:
    write_card_page(dataset)
    first = [(dataset / name).read_bytes() for name in ("card.html", "card.md")]
    write_card_page(dataset)
    assert [(dataset / name).read_bytes() for name in ("card.html", "card.md")] == first


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    write_rows(tmp_path / "examples.jsonl", [distinct(1) | {"id": "x"}])
    (tmp_path / "report.json").write_text("{}")
    page = page_of(tmp_path)
    for heading in ("Sources", "How it was cleaned", "Tokens", "Synthetic", "Labels that look wrong", "leak"):
        assert heading not in page.text
    assert "There is no test split." in page.text
    with pytest.raises(DataError, match="no dataset"):
        write_card_page(tmp_path / "nothing")


def test_a_dataset_of_preferences_alone_has_a_card(tmp_path: Path) -> None:
    write_rows(tmp_path / "examples.jsonl", [])
    (tmp_path / "report.json").write_text(json.dumps({"preferences": {"train": 1200, "test": 34}}))
    assert "1,234rated or compared answers" in page_of(tmp_path).text


def test_parts_of_later_stages_are_shown_when_their_files_are_there(dataset: Path) -> None:
    size = {"count": 40, "total": 900, "mean": 22.5, "p50": 22, "p95": 30, "max": 41}
    cut = {"limit": 30, "conversations_cut": 2, "share_of_conversations": 0.05, "share_of_tokens": 0.01}
    tokens = {
        "vocab_size": 512,
        "tokens_used": 300,
        "conversations": {"all": size},
        "answers": {"all": size},
        "fertility": {"role": {"user": {"tokens_per_word": 1.4}}},
        "limits": {"max_length": cut},
    }
    (dataset / "tokens.json").write_text(json.dumps({"tokenizers": {"tiny": tokens}}))
    sample = {"origin": "a:09", "changes": [{"before": "Where is it?", "after": "Where can it be?"}]}
    (dataset / "augment.json").write_text(json.dumps({"refused": {"noise": {"x": 4}}, "samples": {"noise": [sample]}}))
    report = json.loads((dataset / "report.json").read_text())
    report["curation"] = {"curve": [{"share": 0.5, "count": 20, "coverage": 0.93}]}
    (dataset / "report.json").write_text(json.dumps(report))
    write_rows(dataset / "suspects.jsonl", [{"id": "a:01", "label": "refund", "suggested": "delivery", "score": 0.9}])
    text = page_of(dataset).text
    for told in (
        "2 conversations (5.0 %)",
        "3 of 40 conversations",
        "Where can it be?",
        "Refused drafts",
        "0.93",
        "delivery",
    ):
        assert told in text, told


def test_a_license_beside_the_source_is_named(dataset: Path, tmp_path: Path) -> None:
    assert "License: not stated" in page_of(dataset, tmp_path).text
    (tmp_path / "exports").mkdir()
    (tmp_path / "LICENSE").write_text("All rights reserved\n")
    assert "License: All rights reserved (LICENSE)" in page_of(dataset, tmp_path).text
    (tmp_path / "exports" / "LICENSE.md").write_text("\n# CC BY 4.0\n")
    assert "License: # CC BY 4.0 (exports/LICENSE.md)" in page_of(dataset, tmp_path).text


def test_six_samples_are_of_different_intents_and_do_not_depend_on_the_order_of_rows(dataset: Path) -> None:
    samples = card_content(dataset)["samples"]
    assert len({sample["labels"]["intent"] for sample in samples}) == 6
    lines = (dataset / "examples.jsonl").read_text().splitlines(keepends=True)
    (dataset / "examples.jsonl").write_text("".join(reversed(lines)))
    assert [sample["id"] for sample in card_content(dataset)["samples"]] == [sample["id"] for sample in samples]


def test_labels_of_your_own_field_are_in_the_composition(dataset: Path) -> None:
    told = report()
    told["settings"]["label"]["intent_field"] = "queue"
    (dataset / "report.json").write_text(json.dumps(told))
    rows = [{"id": f"x{n}", **distinct(n), "metadata": {"queue": "billing" if n % 3 else "sales"}} for n in range(9)]
    write_rows(dataset / "examples.jsonl", rows)
    assert [(bar["label"], bar["count"]) for bar in card_content(dataset)["composition"]["queue"]] == [
        ("billing", 6),
        ("sales", 3),
    ]


def test_every_row_is_in_one_bar() -> None:
    from collections import Counter

    lengths = Counter({2: 50, 3: 20, 40: 28, 41: 1, 9000: 1})
    found = histogram(lengths)
    assert sum(item["count"] for item in found) == 100
    assert len(found) <= 12
    assert found[-1]["label"].endswith("+")
    assert histogram(Counter()) == []
