"""`vivace engines tune` and `decoding`: how engines are best set here, what temperature and length do to answers."""

from enum import StrEnum
from typing import Annotated

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet


class Objective(StrEnum):
    """What the settings are to be best at."""

    latency = "latency"
    throughput = "throughput"
    goodput = "goodput"


def tune(
    project: ProjectDir = HERE,
    objective: Annotated[Objective, typer.Option(help="What the settings are to be best at.")] = Objective.latency,
    candidate: Annotated[
        list[str] | None, typer.Option(help="Only this export, such as openvino-int8; may be repeated.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="After so long nothing new is tried.")] = 15.0,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what is remembered for this machine.")] = False,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find threads, batch and cache settings for this machine, and remember them for serving."""
    from vivace.cli.engines_tune_views import print_tuning
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.tuning import tune as search

    found = search(
        project,
        TerminalProgress(quiet),
        aim=objective.value,
        names=candidate or (),
        minutes=minutes,
        again=again,
        changes=change or (),
    )
    if as_json:
        print_json(found)
    else:
        print_tuning(found)


def decoding(
    project: ProjectDir = HERE,
    export: Annotated[str, typer.Option(help="The export that answers; empty: the newest.")] = "",
    temperature: Annotated[
        list[float] | None, typer.Option(min=0, max=2, help="A temperature to try; may be repeated.")
    ] = None,
    max_tokens: Annotated[list[int] | None, typer.Option(min=1, help="A length to try; may be repeated.")] = None,
    examples: Annotated[int, typer.Option(min=2, help="So many validation conversations are answered.")] = 60,
    by_task: Annotated[bool, typer.Option("--by-task", help="Also show the quality of each task.")] = False,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure what temperature and answer length do to quality and cost, and recommend."""
    from vivace.cli.engines_tune_views import print_decoding
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.decoding import LENGTHS, TEMPERATURES, tune_decoding

    found = tune_decoding(
        project,
        TerminalProgress(quiet),
        export=export,
        temperatures=temperature or TEMPERATURES,
        lengths=max_tokens or LENGTHS,
        examples=examples,
        changes=change or (),
    )
    if as_json:
        print_json(found)
    else:
        print_decoding(found, by_task)
