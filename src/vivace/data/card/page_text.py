"""The dataset card in Markdown."""

from typing import Any

from vivace.data.card.plain import fenced, markdown_table, plain


def card_markdown(content: dict[str, Any]) -> str:
    """Return the card of `card_content`; texts of conversations stand in fenced blocks."""
    parts = [
        f"# Dataset {content['version'][:12]}",
        f"{content['rows']:,} conversations and {content['documents']['count']:,} documents. "
        f"{content['dropped']['total']:,} conversations were left out (`dropped.jsonl`), "
        f"{content['rejected_count']:,} lines could not be read (`rejects.jsonl`).",
    ]
    parts += [f"> {plain(warning)}" for warning in content["warnings"]]
    parts += _sources(content) + _cleaning(content) + _composition(content) + _splits(content)
    parts += _tokens(content) + _further(content)
    for talk in content["samples"]:
        parts += ["## Conversations from it"] if talk is content["samples"][0] else []
        text = "\n".join(f"{turn['role']}: {turn['text']}" for turn in talk["messages"])
        parts += [" · ".join(map(plain, (talk["id"], talk["split"], *talk["labels"].values()))), fenced(text)]
    parts += ["## How to make it again", "The same sources and settings give the same bytes."]
    if content["settings"]:
        parts.append(fenced(content["settings"]))
    rows = [(file["name"], file["size_bytes"], file["sha256"]) for file in content["files"]]
    parts.append(markdown_table(("file", "bytes", "SHA-256"), rows))
    return "\n\n".join(parts) + "\n"


def _sources(content: dict[str, Any]) -> list[str]:
    listed = content["sources"]["listed"]
    if not listed:
        return []
    head = ("file", "used as", "format", "conversations", "kept", "unreadable", "license", "SHA-256")
    rows = [
        (
            source["file"],
            source["used_as"],
            source["format"],
            source["conversations"],
            "–" if source["kept"] is None else source["kept"],
            source["rejected"],
            source["license"] or "not stated",
            source["sha256"],
        )
        for source in listed
    ]
    more = content["sources"]["more"]
    return ["## Sources", markdown_table(head, rows), *([f"And {more:,} more in `report.json`."] if more else [])]


def _cleaning(content: dict[str, Any]) -> list[str]:
    parts = []
    if content["steps"]:
        rows = [(step["name"], step["rows"], step["lost"], step["changed"], step["done"]) for step in content["steps"]]
        head = ("step", "conversations after it", "left out", "changed", "what was done")
        parts += ["## Cleaning", markdown_table(head, rows)]
    if content["dropped"]["reasons"]:
        reasons = [(reason["name"], reason["count"]) for reason in content["dropped"]["reasons"]]
        parts += ["## Left out", markdown_table(("step and reason", "conversations"), reasons)]
    return parts


def _composition(content: dict[str, Any]) -> list[str]:
    parts = ["## Composition"] if content["composition"] or content["further"] else []
    for name, items in {**content["composition"], **content["further"]}.items():
        rows = [(item["label"], item["count"], f"{100 * item['share']:.1f} %") for item in items]
        parts.append(markdown_table((name, "conversations", "share"), rows))
    for name, items in content["lengths"].items():
        if items:
            parts.append(markdown_table((name, "conversations"), [(item["label"], item["count"]) for item in items]))
    return parts


def _splits(content: dict[str, Any]) -> list[str]:
    rows = [(split["name"], split["conversations"], f"{100 * split['share']:.1f} %") for split in content["splits"]]
    parts = ["## Splits", markdown_table(("split", "conversations", "share"), rows)]
    if content["leakage"]:
        kinds = list(content["leakage"]["kinds"].items())
        taken = "" if content["leakage"]["left"] is None else ", taken out"
        parts.append(markdown_table((f"training conversations that repeat a test one{taken}", "conversations"), kinds))
    return parts


def _tokens(content: dict[str, Any]) -> list[str]:
    rows = []
    for name, told in content["tokens"].items():
        sizes = told["conversations"]["all"]
        rows.append((name, told.get("vocab_size", ""), sizes["total"], sizes["p50"], sizes["p95"], sizes["max"]))
    head = ("tokenizer", "vocabulary", "tokens", "p50", "p95", "longest")
    return ["## Tokens", markdown_table(head, rows)] if rows else []


def _further(content: dict[str, Any]) -> list[str]:
    parts = []
    if content["diversity"]:
        rows = [
            (name, f"{value:.3g}" if isinstance(value, float) else value)
            for name, value in content["diversity"].items()
        ]
        parts += ["## Diversity", markdown_table(("measure", "value"), rows)]
    if content["repeated"]:
        parts.append(markdown_table(("repeated as", "text", "conversations"), content["repeated"]))
    if content["synthetic"]:
        found = content["synthetic"]
        parts += ["## Synthetic", f"{found['count']:,} conversations, {100 * found['share']:.1f} %."]
    if content["suspects"]:
        keys = ("id", "label", "suggested", "score")
        suspects = [tuple(suspect.get(key, "") for key in keys) for suspect in content["suspects"]]
        parts += ["## Labels that look wrong", markdown_table(("conversation", "label", "rather", "doubt"), suspects)]
    if content["curation"]:
        points = content["curation"]["points"]
        head = tuple(points[0])
        rows = [tuple(point.get(name, "") for name in head) for point in points]
        parts += ["## What a smaller training set gives up", markdown_table(head, rows)]
    return parts
