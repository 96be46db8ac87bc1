"""The providers of `[models.providers]` as models of the project: frozen, with an id, and without any secret."""

from typing import Any

from vivace.domain import Candidate, Model, Workspace
from vivace.loop.project import Project


def provider(project: Project, name: str, *, bare: bool = False) -> Candidate:
    """Return a provider behind the project's layers, unless it is to be `bare`; nothing is sent to it."""
    settings = project.settings.models.providers[name]

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.engines.remote import save_provider

        save_provider(name, settings, workspace.out, root=project.root, progress=workspace.progress)
        return {"size_bytes": 0}  # of this machine's disk, for which a release may have a limit

    made = project.store.run(
        "provider",
        work,
        kind="model",
        settings=settings.model_dump(mode="json", exclude_defaults=True),
        parents={},
        progress=project.progress,
    ).artifact
    model = Model(name, made.path, "remote", "remote", artifact_id=made.id)
    return Candidate(name, settings.engine, model, {} if bare else project.chain)


def provider_candidates(project: Project) -> list[Candidate]:
    """Return the providers that stand beside the tuned model: evaluated, measured, and released if they win."""
    wanted = project.settings.models.providers
    return [provider(project, name) for name, each in wanted.items() if each.candidate]
