"""`vivace bench`: the loop up to and including `bench`, or a server by its address."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet

if TYPE_CHECKING:
    from vivace.loop.benching import Found

app = typer.Typer(add_completion=False)

SERVER, LOAD, RATE = "A server by its address", "The load", "The highest rate"

Url = Annotated[
    str,
    typer.Option(help="Address of a server of OpenAI's protocol, such as http://HOST/v1.", rich_help_panel=SERVER),
]
Model = Annotated[
    str, typer.Option(help="Its model; not needed where it serves one. Or a candidate.", rich_help_panel=SERVER)
]
Key = Annotated[str, typer.Option(metavar="env:NAME", help="Variable with the key.", rich_help_panel=SERVER)]
Prompts = Annotated[
    str, typer.Option(metavar="FILE", help="JSONL with prompt or messages in each row.", rich_help_panel=SERVER)
]
InputTokens = Annotated[
    int | None, typer.Option(min=1, help="Ask synthetic prompts of this length.", rich_help_panel=SERVER)
]
OutputTokens = Annotated[
    int | None, typer.Option(min=1, help="Longest answer. [default: bench.max_tokens]", rich_help_panel=SERVER)
]
IgnoreEos = Annotated[
    bool, typer.Option("--ignore-eos", help="Ask for exactly so many (vLLM, llama.cpp).", rich_help_panel=SERVER)
]
Context = Annotated[
    int | None, typer.Option(min=2, help="Pass over longer requests of a trace.", rich_help_panel=SERVER)
]
Out = Annotated[Path | None, typer.Option(help="Folder for the results of a server.", rich_help_panel=SERVER)]
Requests = Annotated[int, typer.Option(min=1, help="Requests to send.", rich_help_panel=LOAD)]
Concurrency = Annotated[int | None, typer.Option(help="Requests at once (closed loop).", rich_help_panel=LOAD)]
Rate = Annotated[float | None, typer.Option(help="Requests a second (open loop).", rich_help_panel=LOAD)]
Arrivals = Annotated[str | None, typer.Option(help="poisson, gamma, constant or trace.", rich_help_panel=LOAD)]
Variation = Annotated[float | None, typer.Option(help="How bursty gamma arrivals are.", rich_help_panel=LOAD)]
Trace = Annotated[
    str | None, typer.Option(metavar="FILE", help="Replay recorded times and lengths.", rich_help_panel=LOAD)
]
SpeedUp = Annotated[float | None, typer.Option(help="Times faster than recorded.", rich_help_panel=LOAD)]
Level = Annotated[str | None, typer.Option(help="interactive or conversational.", rich_help_panel=LOAD)]
Seed = Annotated[int | None, typer.Option(help="Seed of arrivals and prompts.", rich_help_panel=LOAD)]
FindRate = Annotated[
    bool, typer.Option("--find-rate", help="Search the highest rate that keeps the level.", rich_help_panel=RATE)
]
Goodput = Annotated[
    float, typer.Option(min=0.01, max=1.0, help="Share of requests that must keep it.", rich_help_panel=RATE)
]
ProbeSeconds = Annotated[float, typer.Option(min=1.0, help="Length of each probe.", rich_help_panel=RATE)]


@app.command()
def bench(
    project: ProjectDir = HERE,
    url: Url = "",
    model: Model = "",
    key: Key = "",
    prompts: Prompts = "",
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = None,
    ignore_eos: IgnoreEos = False,
    context_tokens: Context = None,
    out: Out = None,
    requests: Requests = 64,
    concurrency: Concurrency = None,
    rate: Rate = None,
    arrivals: Arrivals = None,
    variation: Variation = None,
    trace: Trace = None,
    speed_up: SpeedUp = None,
    service_level: Level = None,
    seed: Seed = None,
    find_rate: FindRate = False,
    goodput: Goodput = 0.99,
    probe_seconds: ProbeSeconds = 30.0,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure every candidate's speed side by side, or with --url that of any server."""
    wanted = {
        "concurrency": concurrency, "rate": rate, "arrivals": "trace" if trace else arrivals, "variation": variation,
        "trace": trace, "speed_up": speed_up, "service_level": service_level, "seed": seed,
    }  # fmt: skip
    if not url and not find_rate:
        _alone(bool(model or key or prompts or input_tokens or output_tokens or ignore_eos or context_tokens or out))
        given = {name: value for name, value in wanted.items() if value is not None}
        _bench_project(project, [*(change or []), *_as_changes(given)], as_json=as_json, quiet=quiet)
        return
    from vivace.bench.capacity import Goal
    from vivace.bench.server import Asked
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.benching import bench_address, find_rates

    goal = Goal(service_level or "", goodput, probe_seconds) if find_rate else None
    progress, changes = TerminalProgress(quiet), change or []
    if url:
        asked = Asked(url, model, key, prompts, input_tokens, output_tokens, ignore_eos, requests, context_tokens)
        found = bench_address(project, progress, asked, wanted, goal=goal, out=out, changes=changes)
    else:
        assert goal is not None
        found = find_rates(project, progress, goal, wanted=wanted, names=[model] if model else [], changes=changes)
    if as_json:
        print_json(found)
    else:
        print_found(found)


def _alone(for_servers: bool) -> None:
    from vivace.errors import ConfigError

    if for_servers:
        raise ConfigError("Some of these options are for a server, and none is named.", "Name it: --url http://HOST/v1")


def _as_changes(wanted: Mapping[str, object]) -> list[str]:
    import json

    return [f"bench.{name}={json.dumps(value)}" for name, value in wanted.items()]


def _bench_project(project: Path, changes: list[str], *, as_json: bool, quiet: bool) -> None:
    from vivace.cli.results import print_ratios, print_speeds, run_stage
    from vivace.cli.screen import out as screen
    from vivace.cli.screen import print_json
    from vivace.loop.benching import write_project_page
    from vivace.loop.speed import read_speeds

    result = run_stage("bench", project, changes, quiet=quiet)
    assert result.bench is not None
    page = write_project_page(project, result.bench)
    if as_json:
        print_json(result)
        return
    print_speeds(read_speeds(result.bench), {card.candidate.name: card.size_bytes for card in result.scorecards})
    print_ratios(result.bench.facts["ratios"])
    for name, near in result.bench.facts.get("roofline", {}).items():
        share = near["decode_fraction"]
        screen.print(f"{name}: decoding at {share:.0%} of this machine's memory bandwidth, bound by {near['bound']}")
    screen.print(f"The whole report: {page}")


def print_found(found: "Found") -> None:
    """Print what a run against a server, or a search, came to."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from vivace.bench.server.report import figures, latency_rows, lead, probe_rows, remarks
    from vivace.cli.screen import out

    def sheet(title: str, header: list[str], rows: list[list[str]]) -> Table:
        made = Table(
            title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
            padding=(0, 1, 0, 0),
        )  # fmt: skip
        for number, label in enumerate(header):
            made.add_column(label, justify="left" if number == 0 else "right", overflow="fold")
        for row in rows:
            made.add_row(*(escape(cell) for cell in row))
        return made

    if found.server is not None:
        server = found.server
        out.print(sheet(f"{server.model} at {server.host}", ["", "p50", "p95", "p99"], latency_rows(server)))
        out.print(escape(lead(server)))
        for name, value in figures(server):
            out.print(f"{escape(name)}: {escape(value)}")
        for remark in remarks(server):
            out.print(f"[dim]{escape(remark)}[/dim]")
        for error, count in server.errors.items():
            out.print(f"[red]{count} failed:[/red] {escape(error)}")
    for name, capacity in found.capacities.items():
        header, *rows = probe_rows(capacity)
        columns = [0, 1, 2, 3, 4, 5, 7]
        narrow = [[row[place] for place in columns] for row in rows]
        out.print(sheet(f"The highest rate of {name}", [header[place] for place in columns], narrow))
        out.print(escape(capacity.sentence))
    out.print(f"The whole report: {found.page}")
