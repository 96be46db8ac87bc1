"""What `vivace engines tune` and `decoding` show."""

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from vivace.cli.screen import out
from vivace.loop.decoding import Decoded, Decoding
from vivace.loop.tuned import Tuned, Tuning

_MEASURES = {
    "latency": "end to end p50, one at a time, ms",
    "throughput": "tokens/s, {n} at once",
    "goodput": "requests/s in time, {n} at once",
}


def print_tuning(found: Tuning) -> None:
    """Print each candidate's best setting, and how it compares with the default."""
    machine = found.machine
    out.print(f"{machine.processor}, {machine.cores} cores, {machine.memory_gb} GB")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("export", no_wrap=True)
    table.add_column("setting", overflow="fold")
    table.add_column(_MEASURES[found.aim].format(n=found.concurrency), justify="right", overflow="fold")
    table.add_column("times better than the default", justify="right", overflow="fold")
    for each in found.tuned:
        if each.error:
            table.add_row(each.candidate, f"[red]{escape(each.error)}[/red]", "–", "–")
        else:
            table.add_row(each.candidate, _setting(each), _value(each), _ratio(each))
    out.print(table)
    if found.note:
        out.print(f"[yellow]{escape(found.note)}[/yellow]")
    if found.reused:
        out.print("[dim]Remembered from an earlier run on this machine; --again measures anew.[/dim]")


def print_decoding(found: Decoding, by_task: bool = False) -> None:
    """Print each way to decode beside today's, and the recommendation."""
    out.print(f"{found.candidate}, {found.examples} {found.split} conversations; today's settings come first")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    labels = ("temperature", "max_tokens", found.metric, "against today", "tokens per answer", "cut off")
    for label in labels:
        table.add_column(label, justify="right", overflow="fold")
    for place, row in enumerate(found.rows):
        mark = "→ " if place == found.advised else ""
        table.add_row(
            f"{mark}{row.temperature:g}", str(row.max_tokens), _score(row), _against(row), _tokens(row), _cut(row)
        )
    out.print(table)
    chosen = found.rows[found.advised]
    out.print(f"Recommended: temperature {chosen.temperature:g}, max_tokens {chosen.max_tokens}. {found.reason}")
    if by_task:
        for name in chosen.slices:
            told = ", ".join(f"{row.temperature:g}/{row.max_tokens}: {_slice(row, name)}" for row in found.rows)
            out.print(f"{escape(name)}: {told}")


def _score(row: Decoded) -> str:
    interval = row.quality.interval
    return f"{row.quality.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _slice(row: Decoded, name: str) -> str:
    score = row.slices.get(name)
    return "–" if score is None else f"{score.value:.2f} [{score.interval.low:.2f}, {score.interval.high:.2f}]"


def _against(row: Decoded) -> str:
    if row.difference is None:
        return "–"
    found = row.difference
    return f"{found.difference:+.3f} [{found.interval.low:+.3f}, {found.interval.high:+.3f}] {found.outcome}"


def _tokens(row: Decoded) -> str:
    return f"{row.tokens:.0f} [{row.tokens_interval.low:.0f}, {row.tokens_interval.high:.0f}]"


def _cut(row: Decoded) -> str:
    return f"{row.cut:.0%} [{row.cut_interval.low:.0%}, {row.cut_interval.high:.0%}]"


def _setting(each: Tuned) -> str:
    options = "".join(f", {name} {value}" for name, value in each.options.items())
    default = "" if each.changed else " (the default)"
    return f"{each.threads} threads, at most {each.max_batch} at once{options}{default}; {each.tried} tried"


def _value(each: Tuned) -> str:
    digits = 0 if each.value >= 100 else 2
    low, high = each.interval.low, each.interval.high
    return f"{each.value:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]"


def _ratio(each: Tuned) -> str:
    if each.ratio is None or each.ratio_interval is None:
        return "no answer was in time"
    interval = each.ratio_interval
    told = f"{each.ratio:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    return told if each.changed else f"{told}: within chance"
