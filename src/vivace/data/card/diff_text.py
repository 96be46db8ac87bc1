"""A comparison of two datasets as tables, for the terminal and for Markdown."""

from collections.abc import Sequence

from msgspec import Struct

from vivace.data.card.diff import DatasetDiff
from vivace.data.card.plain import fenced, markdown_table, plain

MAX_LINES = 20
_KINDS = {
    "leaked": "Held out before, learned from now",
    "moved": "Moved to another split",
    "removed": "Removed",
    "added": "Added",
    "changed_source": "Changed in the source",
    "changed_cleaning": "Cleaned in another way",
    "relabeled": "Labeled in another way",
}


class Table(Struct, frozen=True):
    """A table to show; the last columns are numbers where they look like it."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def diff_tables(diff: DatasetDiff) -> list[Table]:
    """Return the figures of a comparison; tables without a row are left out."""
    kinds = [
        ("unchanged", diff.unchanged),
        ("added", diff.added),
        ("removed", diff.removed),
        ("changed in the source", diff.changed_source),
        ("cleaned in another way", diff.changed_cleaning),
        ("labeled in another way", diff.relabeled),
        ("under another id", diff.renamed),
        *((f"moved {name}", count) for name, count in diff.moves.items()),
    ]
    tables = [
        Table("Conversations", ("what", "conversations"), [(name, f"{count:,}") for name, count in kinds if count]),
        Table(
            "Why conversations are gone",
            ("step and reason", "conversations"),
            [(name, f"{count:,}") for name, count in diff.removed_because.items()],
        ),
        *(_counts(f"By {name}", name, found) for name, found in diff.counts.items()),
        _counts("Dropped", "step and reason", diff.dropped),
        Table(
            "Settings",
            ("setting", "before", "after"),
            [(name, _value(before), _value(after)) for name, (before, after) in diff.settings.items()],
        ),
    ]
    return [table for table in tables if table.rows]


def diff_markdown(diff: DatasetDiff, one: str, other: str) -> str:
    """Return a comparison as a Markdown page; `one` and `other` are what to call the versions."""
    before, after = diff.rows
    parts = [f"# {one} → {other}", f"{before:,} conversations before, {after:,} after."]
    parts += [f"**Warning:** {warning}" for warning in diff.warnings]
    for table in diff_tables(diff):
        parts += [f"## {table.title}", markdown_table(table.head, table.rows)]
    for kind, title in _KINDS.items():
        for place, change in enumerate(diff.samples.get(kind, ())):
            parts += [f"## {title}"] if not place else []
            parts.append(f"**{plain(change.id)}** {plain(change.note)}".strip())
            parts += [
                f"{name}\n\n{fenced(text)}"
                for name, text in (("before", change.before), ("after", change.after))
                if text
            ]
    return "\n\n".join(parts) + "\n"


def _counts(title: str, name: str, counts: dict[str, tuple[int, int]]) -> Table:
    rows = [
        (label, f"{before:,}", f"{after:,}", f"{after - before:+,}")
        for label, (before, after) in list(counts.items())[:MAX_LINES]
    ]
    if len(counts) > MAX_LINES:
        rest = list(counts.values())[MAX_LINES:]
        before, after = (sum(pair[side] for pair in rest) for side in (0, 1))
        rows.append((f"{len(rest):,} more", f"{before:,}", f"{after:,}", f"{after - before:+,}"))
    return Table(title, (name, "before", "after", "difference"), rows)


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    return "(not set)" if value is None or value == "" else str(value)
