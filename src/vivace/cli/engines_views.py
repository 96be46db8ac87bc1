"""What `vivace engines` shows: tables that fit 80 columns, and the words around a started server."""

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from vivace.cli.screen import out
from vivace.engines.launch import Running
from vivace.loop.engines import EngineRow, Listing, Tried
from vivace.loop.launching import Ready

_MARKS = {True: "[green]✓[/green]", False: "[red]✗[/red]"}


def print_listing(found: Listing) -> None:
    """Print engines, servers and providers."""
    table = Table(title="Engines", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for label in ("", "name"):
        table.add_column(label, no_wrap=True)
    table.add_column("opens", overflow="fold")
    for label in ("batching", "likelihood", "prefix\ncache", "adapters", "on"):
        table.add_column(label, no_wrap=True)
    for row in found.engines:
        traits = row.traits
        table.add_row(
            _MARKS[row.works], row.name, ", ".join(row.opens), traits.batching, _yes(traits.likelihood),
            _yes(traits.prefix_cache), _yes(row.adapters), ", ".join(row.devices),
        )  # fmt: skip
    out.print(table)
    out.print("[dim]Every engine streams; none embeds texts or constrains answers to a grammar.[/dim]")
    for row in found.engines:
        _print_engine(row)
    servers = Table(title="Servers", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for label in ("", "name", "here"):
        servers.add_column(label, overflow="fold")
    for server in found.servers:
        here = escape(server.detail) + "".join(f"\n[green]runs: {escape(each)}[/green]" for each in server.running)
        servers.add_row(
            _MARKS[server.works], server.name, here + (f"\n[dim]{escape(server.get)}[/dim]" if server.get else "")
        )
    out.print(servers)
    for provider in found.providers:
        out.print(f"{_MARKS[provider.ready]} provider {provider.name}: {escape(provider.detail)}")
        if provider.tried is not None:
            out.print(f"    {_answered(provider.tried)}")
    if found.note:
        out.print(f"[yellow]{escape(found.note)}[/yellow]")


def print_ready(ready: Ready) -> None:
    """Print the command, the compose file if there is one, and what makes it a provider."""
    if ready.compose:
        out.print("[dim]# compose.yaml[/dim]")
        out.out(ready.compose, highlight=False)
    else:
        out.out(ready.line, highlight=False)
    _print_provider(ready)


def print_running(running: Running, ready: Ready, detached: bool) -> None:
    """Say where the server is, how it is asked and how it is stopped."""
    out.print(f"{running.server} serves {running.name} at {running.url}/v1 (process {running.pid}). Log: {running.log}")
    stop = f"vivace engines stop {running.server}-{running.name}"
    out.print(f"Stop it with: {stop}" if detached else "Ctrl-C stops it.")
    _print_provider(ready)


def _print_provider(ready: Ready) -> None:
    for note in ready.notes:
        out.print(f"[yellow]{escape(note)}[/yellow]")
    out.print("\n[dim]# for vivace.toml[/dim]")
    out.out(ready.provider, highlight=False)


def _print_engine(row: EngineRow) -> None:
    if not row.works:
        out.print(f"{row.name}: {escape(row.missing)} missing. {escape(row.get)}")
    elif row.tried is not None:
        out.print(f"{escape(f'{row.name} ({row.version})' if row.version else row.name)}: {_answered(row.tried)}")
    elif row.version:
        out.print(f"{row.name}: {escape(row.version)}")


def _answered(tried: Tried) -> str:
    if tried.error:
        return f"[red]{escape(tried.error)}[/red]"
    rate = f"{tried.tokens / tried.seconds:,.0f} tokens/s" if tried.seconds else ""
    return (
        f"{escape(tried.model)}: opened in {tried.load_s:.1f} s, {tried.prompt_tokens} tokens read, first token after "
        f"{tried.first_token_ms:,.0f} ms, {tried.tokens} tokens in {tried.seconds:.2f} s ({rate})"
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
