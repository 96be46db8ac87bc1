"""What a dataset card says, gathered from the files of a dataset folder."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from vivace.data.card.facts import RowFacts, bars, drop_samples, histogram, read_facts
from vivace.data.card.folder import SPLITS, read_lines, read_object, read_report
from vivace.data.card.licenses import license_of
from vivace.domain import Example
from vivace.store.files import sha256_file

UNDETERMINED = "und"  # ISO 639-2 for a language that cannot be told
MAX_SOURCES = 40
MAX_REASONS = 12
MAX_REJECTS = 5
MAX_SUSPECTS = 10
MAX_LINES = 4
MAX_MESSAGE_CHARS = 700
MAX_SETTINGS_CHARS = 6000
LEAKS = {
    "exact": "word for word",
    "normalized": "the same but for case and punctuation",
    "ngram_13": "half of its runs of 13 words",
    "near_duplicate": "nearly the same",
    "near_duplicates": "nearly the same",
}


def card_content(dataset: Path, root: Path | None = None) -> dict[str, Any]:
    """Return the sections of a card as JSON-like values; a section without data is empty."""
    report = read_report(dataset)
    label = (report.get("settings") or {}).get("label") or {}
    facts = read_facts(dataset, str(label.get("intent_field") or "intent"))
    rows = facts.splits.total()
    return {
        "version": sha256_file(dataset / "examples.jsonl"),
        "files": _hashes(dataset),
        "tiles": _tiles(report, facts),
        "rows": rows,
        "documents": _documents(report),
        "warnings": _warnings(report, facts),
        "sources": _sources(report, root),
        "steps": _steps(report),
        "dropped": _dropped(dataset, report),
        "rejected": list(islice(read_lines(dataset / "rejects.jsonl"), MAX_REJECTS)),
        "rejected_count": _count(report.get("rejected")),
        "composition": {name: bars(found) for name, found in facts.composition.items() if found},
        "further": _further(report, set(facts.composition)),
        "lengths": {
            "Turns in a conversation": histogram(facts.turns),
            "Words in the answer to learn": histogram(facts.answer_words),
        },
        "splits": _splits(report, facts),
        "diversity": _flat(report.get("diversity")),
        "repeated": _repeated(report),
        "leakage": _leakage(report),
        "tokens": _tokens(dataset),
        "synthetic": _synthetic(dataset, facts),
        "suspects": list(islice(read_lines(dataset / "suspects.jsonl"), MAX_SUSPECTS)),
        "curation": _curation(report),
        "samples": [_sample(example) for example in facts.samples()],
        "settings": _settings(report),
    }


def _hashes(dataset: Path) -> list[dict[str, Any]]:
    """Return name, size and SHA-256 of the other files of the folder."""
    return [
        {"name": path.name, "size_bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(dataset.glob("*.json*"))
    ]


def _tiles(report: dict[str, Any], facts: RowFacts) -> list[tuple[str, str]]:
    """Return the few figures to see first, with what they count."""
    rows = facts.splits.total()
    read = sum(source["conversations"] for source in _conversation_sources(report))
    tiles = [(f"{rows:,}", "conversations")]
    if read:
        tiles.append((f"{read:,}", "conversations read"))
    tiles.append((" / ".join(f"{facts.splits[name]:,}" for name in SPLITS), "train / validation / test"))
    tiles.append((f"{facts.words:,}", "words"))
    for name, told in (("queries", "questions without answer"), ("preferences", "rated or compared answers")):
        if count := sum((report.get(name) or {}).values()):
            tiles.append((f"{count:,}", told))
    languages = len(facts.composition["language"].keys() - {UNDETERMINED})
    if languages:
        tiles.append((f"{languages:,}", "language" if languages == 1 else "languages"))
    if facts.synthetic:
        tiles.append((f"{100 * facts.synthetic.total() / max(1, rows):.0f} %", "synthetic"))
    return tiles


def _conversation_sources(report: dict[str, Any]) -> list[dict[str, Any]]:
    sources = report.get("sources") or report.get("files") or []
    return [source for source in sources if "conversations" in source]


def _documents(report: dict[str, Any]) -> dict[str, Any]:
    sources = report.get("sources") or []
    sizes = [_count(source.get("size_bytes")) for source in sources if source.get("used_as") == "documents"]
    return {"count": _count(report.get("documents")) or len(sizes), "size_bytes": sum(sizes)}


def _warnings(report: dict[str, Any], facts: RowFacts) -> list[str]:
    told = [str(warning) for warning in report.get("warnings") or ()]
    told += [f"There is no {name} split." for name in SPLITS if not facts.splits[name]]
    return told


def _sources(report: dict[str, Any], root: Path | None) -> dict[str, Any]:
    listed = [
        {
            "file": source.get("file", ""),
            "used_as": source.get("used_as", ""),
            "format": source.get("format", ""),
            "conversations": _count(source.get("conversations")),
            "kept": source.get("kept"),
            "rejected": _count(source.get("rejected")),
            "repaired": _count(source.get("repaired_lines", source.get("lines_read_as_windows_1252"))),
            "sha256": source.get("sha256", ""),
            "license": license_of(str(source.get("file", "")), root),
        }
        for source in _conversation_sources(report)
    ]
    return {"listed": listed[:MAX_SOURCES], "more": max(0, len(listed) - MAX_SOURCES)}


def _steps(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the funnel: what was read, then the rows after each step, each with its share of the first."""
    steps = [step for step in report.get("steps") or () if "rows_out" in step]
    if not steps:
        return []
    first = max(1, _count(steps[0].get("rows_in")))
    told: list[dict[str, Any]] = [
        {
            "name": "read",
            "rows": first,
            "lost": 0,
            "width": 100.0,
            "changed": 0,
            "done": "",
            "dropped": "",
            "samples": [],
        }
    ]
    for step in steps:
        out = _count(step["rows_out"])
        told.append(
            {
                "name": step["step"],
                "rows": out,
                "lost": _count(step.get("rows_in")) - out,
                "width": 100 * out / first,
                "changed": _count(step.get("rows_changed")),
                "done": "; ".join(f"{name}: {count:,}" for name, count in (step.get("changes") or {}).items()),
                "dropped": "; ".join(f"{name}: {count:,}" for name, count in (step.get("dropped") or {}).items()),
                "samples": [_cut_pair(sample) for sample in (step.get("samples") or [])[:3]],
            }
        )
    return told


def _cut_pair(sample: dict[str, Any]) -> dict[str, str]:
    return {
        "id": str(sample.get("id", "")),
        "before": str(sample.get("before", ""))[:300],
        "after": str(sample.get("after", ""))[:300],
    }


def _dropped(dataset: Path, report: dict[str, Any]) -> dict[str, Any]:
    reasons = {str(name): _count(count) for name, count in (report.get("dropped_by_reason") or {}).items()}
    shown = sorted(reasons, key=lambda name: (-reasons[name], name))[:MAX_REASONS]
    samples = drop_samples(dataset, shown)
    most = max(reasons.values(), default=1)
    return {
        "total": sum(reasons.values()),
        "more": len(reasons) - len(shown),
        "reasons": [
            {
                "name": name,
                "count": reasons[name],
                "width": 100 * reasons[name] / max(1, most),
                "samples": samples[name],
            }
            for name in shown
        ],
    }


def _further(report: dict[str, Any], known: set[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the fields of the report's composition that rows do not carry, such as lengths and mentions of groups."""
    table = report.get("composition") or {}
    fields = {**(table.get("fields") or {}), "group mentions": table.get("groups"), "own terms": table.get("own_terms")}
    fields |= {name: found for name, found in table.items() if name not in ("fields", "groups", "own_terms")}
    total = _count(table.get("conversations"))
    return {
        str(name): found
        for name, values in fields.items()
        if name not in known and isinstance(values, dict) and (found := _plain_bars(values, total))
    }


def _plain_bars(values: dict[str, Any], total: int) -> list[dict[str, Any]]:
    """Return bars that are not divided by split; a value's count may stand with its share."""
    counts = {
        str(value): _count(count.get("count") if isinstance(count, dict) else count) for value, count in values.items()
    }
    most = max(counts.values(), default=0)
    whole = total or sum(counts.values())
    ranked = sorted((value for value in counts if counts[value]), key=lambda value: (-counts[value], value))
    return [
        {
            "label": value,
            "count": counts[value],
            "share": counts[value] / whole,
            "parts": [("", 100 * counts[value] / most)],
        }
        for value in ranked[:MAX_REASONS]
    ]


def _splits(report: dict[str, Any], facts: RowFacts) -> list[dict[str, Any]]:
    told = []
    for name in SPLITS:
        entry = (report.get("splits") or {}).get(name)
        size = entry if isinstance(entry, dict) else {}
        told.append(
            {
                "name": name,
                "conversations": facts.splits[name],
                "share": facts.splits[name] / max(1, facts.splits.total()),
                "turns": size.get("turns"),
                "tokens": size.get("approximate_tokens"),
                "answer_words": size.get("answer_words"),
            }
        )
    return told


def _repeated(report: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Return the questions and answers that stand in most conversations: kind, text, conversations."""
    told = []
    for kind, found in (report.get("diversity") or {}).items():
        pairs = found.get("most_repeated") if isinstance(found, dict) else None
        told += [(kind.removesuffix("s"), str(text)[:200], count) for text, count in (pairs or ())[:5] if count > 1]
    return told


def _leakage(report: dict[str, Any]) -> dict[str, Any]:
    """Return the check's counts by kind; before it removes anything the kinds stand in the table itself."""
    table = report.get("leakage")
    if not isinstance(table, dict):
        return {}
    kinds = table.get("removed", table)
    return {
        "kinds": {LEAKS.get(name, str(name)): count for name, count in kinds.items() if isinstance(count, int)},
        "left": _count(table.get("left")) if "removed" in table else None,
        "tested": table.get("tested"),
    }


def _tokens(dataset: Path) -> dict[str, Any]:
    return {
        str(name): found
        for name, found in (read_object(dataset / "tokens.json").get("tokenizers") or {}).items()
        if isinstance(found, dict) and found.keys() >= {"vocab_size", "conversations", "fertility"}
    }


def _synthetic(dataset: Path, facts: RowFacts) -> dict[str, Any]:
    report = read_object(dataset / "augment.json")
    if not facts.synthetic and not report:
        return {}
    samples = [
        {"method": str(method), "before": str(pair.get("before", ""))[:400], "after": str(pair.get("after", ""))[:400]}
        for method, found in (report.get("samples") or {}).items()
        for sample in list(found)[:2]
        for pair in (sample.get("changes") or [sample])[:1]
        if isinstance(pair, dict)
    ]
    return {
        "count": facts.synthetic.total(),
        "share": facts.synthetic.total() / max(1, facts.splits.total()),
        "methods": dict(sorted(facts.synthetic.items())),
        "refused": {
            str(name): sum(found.values())
            for name, found in (report.get("refused") or {}).items()
            if any(found.values())
        },
        "samples": samples,
    }


def _curation(report: dict[str, Any]) -> dict[str, Any]:
    """Return the points of the curve, and each figure between 0 and 1 as a line over the share that is kept."""
    curve = (report.get("curation") or {}).get("curve") or []
    points = [point for point in curve if isinstance(point, dict)][:40]
    names = [name for name in (points[0] if points else ()) if name not in ("share", "count")]
    lines = []
    for name in names:
        pairs = [(point["share"], point[name]) for point in points if {"share", name} <= point.keys()]
        if all(isinstance(value, int | float) and 0 <= value <= 1 for pair in pairs for value in pair):
            places = " ".join(f"{34 + 316 * x:.1f},{120 - 110 * y:.1f}" for x, y in pairs)
            lines.append({"name": name.replace("_", " "), "points": places})
    return {"points": points, "lines": lines[:MAX_LINES]} if points else {}


def _sample(example: Example) -> dict[str, Any]:
    labels = {
        name: example.metadata[name] for name in ("intent", "topic", "language", "outcome") if name in example.metadata
    }
    return {
        "id": example.id,
        "split": example.split,
        "source": example.source,
        "labels": {name: str(value) for name, value in labels.items()},
        "messages": [
            {
                "role": message.role,
                "text": _cut(message.content)
                or "; ".join(f"{call.function.name}({call.function.arguments})" for call in message.tool_calls)[:400],
            }
            for message in example.messages
        ],
    }


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARS else text[:MAX_MESSAGE_CHARS] + " …"


def _settings(report: dict[str, Any]) -> str:
    settings = report.get("settings")
    if not isinstance(settings, dict):
        return ""
    lines = ["[data]"]
    tables = {name: value for name, value in settings.items() if isinstance(value, dict) and name != "columns"}
    lines += [_setting(name, value) for name, value in settings.items() if name not in tables and value is not None]
    for name, table in tables.items():
        lines += ["", f"[data.{name}]"]
        lines += [_setting(key, value) for key, value in table.items() if value is not None]
    return "\n".join(lines)[:MAX_SETTINGS_CHARS]


def _setting(name: str, value: Any) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {json.dumps(found, ensure_ascii=False)}" for key, found in value.items())
        return f"{name} = {{ {pairs} }}"
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"


def _flat(table: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested figures under readable names; lists and missing values are left out."""
    told: dict[str, Any] = {}
    for name, value in table.items() if isinstance(table, dict) else ():
        label = f"{prefix}{name}".replace("_", " ").replace("distinct n: ", "distinct-")
        if isinstance(value, dict):
            told |= _flat(value, f"{label}: ")
        elif isinstance(value, int | float | str) and value != "":
            told[label] = value
    return told


def _count(value: Any) -> int:
    """Return a count, or the size of a list of what was counted."""
    if isinstance(value, list):
        return len(value)
    return value if isinstance(value, int) else 0
