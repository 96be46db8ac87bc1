"""The stage that trims the tuned model's vocabulary to the dataset, between merging and exporting."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from vivace.chain.system import with_system
from vivace.config.trim import TrimSettings
from vivace.domain import Artifact, Example, Model, Workspace
from vivace.errors import RequestError
from vivace.loop.project import Project, table
from vivace.models import ChatTokenizer
from vivace.store import read_examples


class DomainTexts:
    """What the tuned model will read and write: training conversations, questions and documents, read anew each time.

    Conversations are rendered as they are served: by the model's template, with the project's system prompt.
    """

    def __init__(self, dataset: Path, model: Path, system: str) -> None:
        self._dataset = dataset
        self._chat = ChatTokenizer.open(model)
        self._system = system

    def __iter__(self) -> Iterator[str]:
        for name in ("examples", "queries"):
            path = self._dataset / f"{name}.jsonl"
            if path.is_file():
                for example in read_examples(path, "train"):
                    yield from self._render(example)
        yield from _documents(self._dataset / "documents.jsonl")

    def _render(self, example: Example) -> Iterator[str]:
        messages = with_system(example.messages, self._system)
        try:
            yield self._chat.render(messages, add_generation_prompt=False, tools=example.tools)
        except RequestError:
            # Such as a tool's turn that the template does not know: its text may still be said.
            yield from (message.content for message in messages if message.content)


def held_out_texts(dataset: Path) -> Iterator[str]:
    """Yield the turns of the validation and test conversations."""
    for split in ("validation", "test"):
        for example in read_examples(dataset / "examples.jsonl", split):
            yield from (message.content for message in example.messages if message.content)


def trim(project: Project, model: Model, dataset: Artifact, settings: TrimSettings) -> tuple[Model, bool]:
    """Return the model with a smaller vocabulary, and whether it was there already."""
    system = project.settings.project.system

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.compress.trim import trim_vocabulary

        facts = trim_vocabulary(
            model.path,
            DomainTexts(dataset.path, model.path, system),
            workspace.out,
            keep=settings.keep,
            min_count=settings.min_count,
            multiple=settings.multiple,
            held_out=held_out_texts(dataset.path),
            progress=workspace.progress,
        )
        workspace.progress.say(
            f"{facts['vocab_size_after']:,} of {facts['vocab_size_before']:,} tokens stay; "
            f"{facts['bytes_saved'] / 1e6:,.0f} MB saved, {facts['share_saved']:.0%} of the parameters."
        )
        return facts

    outcome = project.store.run(
        "trim",
        work,
        kind="model",
        settings={key: value for key, value in table(settings).items() if key != "method"} | {"system": system},
        parents={"model": model.artifact_id or project.digest(model.path), "dataset": dataset.id},
        progress=project.progress,
    )
    made = outcome.artifact
    trimmed = Model(model.name, made.path, "hf", model.weights, artifact_id=made.id, license=model.license)
    return trimmed, outcome.reused


def _documents(path: Path) -> Iterator[str]:
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for line in file:
            document = msgspec.json.decode(line)
            yield from (text for key in ("title", "text") if (text := document.get(key)))
