"""`vivace data`: make the dataset, and look at what is in it."""

from pathlib import Path
from typing import Annotated

import typer

from vivace.cli.options import HERE, Changes, DefaultGroup, Json, ProjectDir, Quiet

Project = Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")]
Dataset = Annotated[str, typer.Option("--dataset", "-d", help="First digits of the dataset's id; empty: the newest.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Show at most so many.")]


app = typer.Typer(
    cls=DefaultGroup,
    add_completion=False,
    help="Read, clean, label and split the conversations (`vivace data` alone), and look at what is in them.",
)


@app.command()
def make(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Make the dataset: read, clean, label, split; tell what was dropped and why."""
    from vivace.cli.data_views import print_dataset
    from vivace.cli.results import run_stage
    from vivace.cli.screen import print_json

    result = run_stage("data", project, change or [], quiet=quiet)
    if as_json:
        print_json(result)
    elif result.dataset is not None:
        print_dataset(result.dataset)


@app.command("list")
def list_(project: ProjectDir = HERE, as_json: Json = False) -> None:
    """List the project's datasets, newest first."""
    from rich.table import Table

    from vivace.cli.screen import out, print_json
    from vivace.loop.datasets import list_datasets

    found = list_datasets(project)
    if as_json:
        print_json(found)
        return
    table = Table("dataset", "stage", "train", "validation", "test", "made", title="Datasets", title_justify="left")
    for item in found:
        counts = [f"{item.facts.get(name, 0):,}" for name in ("train", "validation", "test")]
        made = item.origin.created_at[:16].replace("T", " ")
        table.add_row(item.short_id, item.origin.stage, *counts, made)
    out.print(table if found else "No dataset yet: run `vivace data`.")


@app.command()
def show(
    dataset: Dataset = "",
    project: Project = HERE,
    samples: Annotated[int, typer.Option(min=0, help="Show so many conversations.")] = 3,
    synthetic: Annotated[bool, typer.Option(help="Show synthetic conversations beside their origins.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a dataset is made of: cleaning, composition, diversity, warnings, samples."""
    from vivace.cli.data_views import print_dataset, print_samples, print_synthetic
    from vivace.cli.screen import print_json
    from vivace.data.card.folder import read_report
    from vivace.loop.datasets import find_dataset

    found = find_dataset(project, dataset)
    if as_json:
        print_json(read_report(found.path))
        return
    print_dataset(found)
    if synthetic:
        print_synthetic(found.path, samples)
    else:
        print_samples(found.path, samples)


@app.command()
def rejects(dataset: Dataset = "", project: Project = HERE, limit: Limit = 20, as_json: Json = False) -> None:
    """Show the lines that could not be read, with file, line and reason."""
    from vivace.cli.data_views import print_rejects
    from vivace.loop.datasets import find_dataset

    print_rejects(find_dataset(project, dataset).path, limit, as_json=as_json)


@app.command()
def dropped(
    reason: Annotated[str, typer.Argument(help="Words of a step or reason; empty: all.")] = "",
    dataset: Dataset = "",
    project: Project = HERE,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Show the conversations that cleaning dropped, with step and reason."""
    from vivace.cli.data_views import print_dropped
    from vivace.loop.datasets import find_dataset

    print_dropped(find_dataset(project, dataset).path, reason, limit, as_json=as_json)


@app.command()
def why(
    row: Annotated[str, typer.Argument(help="Id of a row, a part of it, or file:line.")],
    dataset: Dataset = "",
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Tell the fate of a row: kept, dropped or unreadable, by which step, and why."""
    from vivace.cli.data_views import print_fate
    from vivace.cli.screen import print_json
    from vivace.data.card.fate import fate
    from vivace.loop.datasets import find_dataset

    found = fate(find_dataset(project, dataset).path, row)
    if as_json:
        print_json(found)
    else:
        print_fate(found)


@app.command()
def label(
    row: Annotated[str, typer.Argument(help="Id of a row, or a part of it.")],
    change: Annotated[str, typer.Argument(metavar="FIELD=VALUE", help="The right label, such as intent=refund.")],
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Correct a label; it is laid over the data from the next `vivace data` on, the source stays as it is."""
    from vivace.cli.screen import out, print_json
    from vivace.loop.datasets import correct_label

    done = correct_label(project, row, change)
    if as_json:
        print_json(done)
        return
    out.print(f"{done['id']}: {done['field']} {done['before'] or 'none'} → {done['after']}")
    out.print(f"  written to {done['file']}; run `vivace data` to lay it over the data")


@app.command()
def suspects(dataset: Dataset = "", project: Project = HERE, limit: Limit = 20, as_json: Json = False) -> None:
    """Show labels that look wrong, the surest first, for a person to check."""
    from vivace.cli.data_views import print_suspects
    from vivace.loop.datasets import find_dataset

    print_suspects(find_dataset(project, dataset).path, limit, as_json=as_json)


@app.command()
def tokens(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="A candidate base; may be repeated.")] = None,
    trim: Annotated[
        int | None, typer.Option(min=1, help="Also tell what a vocabulary of so many tokens loses.")
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Learn a tokenizer from the dataset into this folder.")] = None,
    algorithm: Annotated[str, typer.Option(help="bpe, wordpiece or unigram, with --train.")] = "bpe",
    vocab_size: Annotated[int, typer.Option(min=1, help="Size of the vocabulary, with --train.")] = 8000,
    project: Project = HERE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell what the dataset costs in tokens, for one model or several side by side."""
    from vivace.cli.data_views import print_learned, print_tokens
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.datasets import count_tokens, learn_tokenizer

    progress = TerminalProgress(quiet)
    if train is not None:
        learned = learn_tokenizer(project, train, progress, algorithm=algorithm, vocab_size=vocab_size)
        if as_json:
            print_json(learned)
        else:
            print_learned(learned, train)
        return
    counted, trimmed = count_tokens(project, model or [], progress, trim=trim)
    if as_json:
        print_json(counted | ({"trimming": trimmed} if trimmed else {}))
    else:
        print_tokens(counted, trimmed)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(help="A dataset: its folder, or the first digits of its id.")],
    other: Annotated[str, typer.Argument(help="Another; empty: the newest.")] = "",
    project: Project = HERE,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown page.")] = False,
) -> None:
    """Compare two versions of a dataset: rows, splits, labels, reasons, settings."""
    from vivace.cli.data_views import print_diff
    from vivace.cli.screen import out, print_json
    from vivace.data.card.diff import compare_datasets
    from vivace.data.card.diff_text import diff_markdown
    from vivace.loop.datasets import dataset_folder

    found = compare_datasets(dataset_folder(project, one), dataset_folder(project, other))
    if as_json:
        print_json(found)
    elif markdown:
        out.print(diff_markdown(found, one, other or "the newest"), markup=False)
    else:
        print_diff(found)
