"""Prove for each candidate that the model that is served is the model that was trained."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from vivace.config.settings import ServeSettings
from vivace.domain import Artifact, Candidate, Example, Message, Model, Progress, Reason, Responder, Workspace
from vivace.engines import open_engine
from vivace.errors import ConfigError, DataError, ModelError, VivaceError
from vivace.loop import stages
from vivace.loop.compress.steps import Step, carry_out
from vivace.loop.project import Project, open_project, table
from vivace.models import ChatTokenizer
from vivace.parity import Hop, ParityReport, Proof, choose, load_parity, reason, server, write_parity
from vivace.parity.bounds import check_bounds
from vivace.parity.findings import merge_reports, parity_json
from vivace.parity.proof import MODEL_NAME
from vivace.parity.rendering import Door, Trained, Trainer, Words
from vivace.parity.scoring import Heard
from vivace.registry import nearest
from vivace.store import read_examples
from vivace.store.artifacts import Outcome
from vivace.store.files import write_atomic

if TYPE_CHECKING:
    from vivace.loop.run import Result

HEARD = "heard.json"
REVISION = 1
Note = Callable[[str, bool], None]


class Way(Struct, frozen=True):
    """How a candidate came from training: what training made, the steps after it, and where its words come from."""

    tuned: Model
    steps: tuple[Step, ...]
    words: Path

    @property
    def source(self) -> Model:
        """The Hugging Face model that is exported."""
        return self.steps[-1].model

    @property
    def trimmed(self) -> bool:
        """Whether its vocabulary was made smaller on purpose."""
        return any(step.name == "trim" for step in self.steps)

    @property
    def changed(self) -> bool:
        """Whether its weights were changed on purpose after merging."""
        return len(self.steps) > 1


def parity_findings(
    project: Project, result: "Result", note: Note | None = None
) -> tuple[dict[str, tuple[Reason, ...]], dict[str, ParityReport]]:
    """Return the reasons for the gate and the proofs, by candidate; none where [parity] is switched off."""
    if not project.settings.parity.enabled:
        return {}, {}
    ways = ways_of(project, result)
    assert result.dataset is not None
    reports = {}
    for item in result.candidates:
        if item.name in ways:
            reports[item.name] = parity_stage(project, item, ways[item.name], result.dataset, note)
    return {name: (reason(report),) for name, report in reports.items()}, reports


def parity_papers(reports: Mapping[str, ParityReport]) -> dict[str, dict[str, bytes]]:
    """Return the file that lies in a release, by candidate."""
    return {name: {"parity.json": parity_json(report)} for name, report in reports.items()}


def ways_of(project: Project, result: "Result") -> dict[str, Way]:
    """Return how each candidate came from training; every step is there already, so nothing is made anew."""
    made, base = result.aligned or result.distilled or result.trained, result.base
    assert made is not None
    assert base is not None
    assert result.dataset is not None
    tuned = stages.tuned_model(project, made, base)
    # A student speaks as the model it was made from; whatever else was trained, with the base's words.
    words = tuned.path if result.distilled is not None and tuned.format == "hf" else base.path
    merged, _reused = stages.merge(project, tuned, base)
    ways = {"tuned-transformers": Way(tuned, (Step("tuned", merged),), words)}
    for plan in project.settings.compress.every_plan:
        steps = tuple(carry_out(project, plan, merged, result.dataset, lambda *_: None))
        for kind in project.settings.compress.exports_of(plan):
            ways[f"{plan.name}-{kind}"] = Way(tuned, steps, words)
    return {item.name: ways[item.name] for item in result.candidates if item.name in ways}


def parity_stage(
    project: Project, item: Candidate, way: Way, dataset: Artifact, note: Note | None = None
) -> ParityReport:
    """Prove one candidate, from training to HTTP; what was proved before is not proved again."""
    source = _source_stage(project, way, dataset)
    if note is not None:
        note("parity of the merged model", source.reused)

    def work(workspace: Workspace) -> dict[str, Any]:
        proof = _proof(project, way, dataset)
        hop = Hop(item.name, item.engine, item.model, item.chain, way.trimmed)
        heard = msgspec.json.decode((source.artifact.path / HEARD).read_bytes(), type=list[Heard])
        threads = project.settings.serve.threads
        serve = serve_on_loopback if project.settings.parity.http else None

        async def prove() -> ParityReport:
            found = await proof.check_tokens(hop)
            with project.progress.task(f"Asking {item.name}"):
                found += await proof.check_engine(hop, heard, serve, threads=threads)
            names = (item.name, *([f"{item.name} over HTTP"] if serve is not None else []))
            return ParityReport(item.name, names, tuple(found), proof.conversations, len(proof.asked))

        before = load_parity(source.artifact.path)
        report = merge_reports(item.name, [before, asyncio.run(prove())])
        write_parity(report, workspace.out)
        return {"candidate": item.name, "met": report.met, "findings": len(report.findings)}

    outcome = project.store.run(
        "parity",
        work,
        kind="report",
        settings=_asked(project) | {"chain": item.chain, "engine": item.engine, "candidate": item.name},
        parents=_parents(project, way, dataset)
        | {"model": _identity(project, item.model), "before": source.artifact.id},
        progress=project.progress,
        revision=REVISION,
    )
    if note is not None:
        note(f"parity {item.name}", outcome.reused)
    return load_parity(outcome.artifact.path)


def prove_project(
    start: Path, progress: Progress, *, names: Sequence[str] = (), changes: Iterable[str] = ()
) -> list[ParityReport]:
    """Prove candidates of a project, whether that is switched on or not; all of them without names.

    The newest release is proved beside them where its folder can be opened. Raises `ConfigError` for a name that is no
    candidate.
    """
    from vivace.loop.run import run

    with open_project(start, progress, changes=changes) as project:
        result = run(project, "compress")
        ways = ways_of(project, result)
        candidates = {item.name: item for item in result.candidates if item.name in ways}
        for name in names:
            if name not in (*candidates, "release"):
                hint = nearest(name, [*candidates, "release"])
                raise ConfigError(f"{name!r} is no candidate that was trained here.", hint)
        assert result.dataset is not None
        chosen = [candidates[name] for name in names if name in candidates] if names else list(candidates.values())
        reports = [parity_stage(project, item, ways[item.name], result.dataset, _told(project)) for item in chosen]
        if not names or "release" in names:
            released = _released(project, candidates)
            if released is not None:
                origin, item = released
                reports.append(parity_stage(project, item, ways[origin], result.dataset, _told(project)))
            elif names:
                raise ConfigError("There is no release of today's candidates yet.", "Make one with `vivace run`.")
        if not reports:
            raise DataError("There is no candidate to prove.", "Name an export in [compress] exports.")
        return reports


def prove_server(
    start: Path,
    url: str,
    progress: Progress,
    *,
    model: str = "",
    api_key: str = "",
    changes: Iterable[str] = (),
) -> ParityReport:
    """Hold a server that runs already against what training read and what the newest release answers.

    Any server that speaks OpenAI's protocol. Raises `EngineError` where it cannot be reached.
    """
    from vivace.loop.run import run

    with open_project(start, progress, changes=changes) as project:
        place = server.checked_url(url)
        name = model or asyncio.run(server.model_name(place, api_key))
        result = run(project, "compress")
        ways = ways_of(project, result)
        if not ways:
            raise DataError("There is no candidate to compare with.", "Name an export in [compress] exports.")
        assert result.dataset is not None
        candidates = {item.name: item for item in result.candidates if item.name in ways}
        released = _released(project, candidates)
        origin, item = released if released is not None else next(iter(candidates.items()))
        proof = _proof(project, ways[origin], result.dataset)
        if not proof.asked:
            raise DataError("No test conversation ends with an answer that was learned.", "See `vivace data`.")
        hop = Hop(item.name, item.engine, item.model, item.chain, ways[origin].trimmed)
        found = asyncio.run(_hold(proof, hop, place, name, api_key, project))
        notes = (f"Greedy answers are compared with those of {item.name}.",)
        return ParityReport(place, ("trained", place), tuple(found), proof.conversations, len(proof.asked), notes)


def trainer_of(tokenizer: ChatTokenizer, system: str) -> Trainer:
    """Return what renders a conversation as training does: the rows that `vivace.train` learns from."""
    from vivace.train.batches.rows import IGNORED, encode_examples

    def render(example: Example, room: int | None) -> Trained | None:
        # Only the last answer is wanted; a weight changes nothing in what is rendered.
        earlier = tuple(
            replace(turn, weight=0.0) if turn.role == "assistant" else turn for turn in example.messages[:-1]
        )
        only = replace(example, messages=(*earlier, example.messages[-1]))
        try:
            (row,) = encode_examples(tokenizer, [only], system, 1 << 40).rows
            start = next(place for place, label in enumerate(row.labels) if label != IGNORED)
            if room is not None and start > room:
                rest = len(row.ids) - start
                (row,) = encode_examples(tokenizer, [only], system, room + rest).rows
                start = next(place for place, label in enumerate(row.labels) if label != IGNORED)
        except (DataError, ModelError):
            return None
        answer = tuple(label for label in row.labels[start:] if label != IGNORED)
        return Trained(row.ids[:start], answer)

    return render


@asynccontextmanager
async def serve_on_loopback(responder: Responder, door: Door) -> AsyncGenerator[str, None]:
    """Offer a responder over HTTP on a free port of this machine, through the application that `vivace serve` runs."""
    from vivace.serve.app import admission_of, create_app
    from vivace.serve.server import DrainingServer, bind, server_config

    ready = asyncio.Event()
    with bind("127.0.0.1", 0) as listener:
        app = create_app(responder, door, ServeSettings(), model_name=MODEL_NAME, release_id="parity")
        running = DrainingServer(server_config(app), admission_of(app), ready.set, drain_s=5.0)
        task = asyncio.create_task(running.serve(sockets=[listener]))
        try:
            await asyncio.wait_for(ready.wait(), 30)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            running.stop()
            await task


def _source_stage(project: Project, way: Way, dataset: Artifact) -> Outcome:
    """Prove the way from training to the model that is exported, and keep what that model makes of the questions."""

    def work(workspace: Workspace) -> dict[str, Any]:
        proof = _proof(project, way, dataset)
        report, heard = asyncio.run(_prove_source(project, proof, replace(way, tuned=_whole(way.tuned, workspace))))
        write_parity(report, workspace.out)
        write_atomic(workspace.out / HEARD, msgspec.json.encode(heard))
        return {"met": report.met, "findings": len(report.findings)}

    return project.store.run(
        "parity_source",
        work,
        kind="report",
        settings=_asked(project),
        parents=_parents(project, way, dataset),
        progress=project.progress,
        revision=REVISION,
    )


def _whole(tuned: Model, workspace: Workspace) -> Model:
    """Return an adapter in a folder that also holds its base's configuration: alone it does not say its context."""
    if tuned.format != "adapter" or tuned.base is None or (tuned.path / "config.json").is_file():
        return tuned
    place = workspace.scratch / "adapter"
    shutil.copytree(tuned.path, place, dirs_exist_ok=True)
    shutil.copy(tuned.base / "config.json", place)
    return replace(tuned, path=place)


async def _prove_source(project: Project, proof: Proof, way: Way) -> tuple[ParityReport, list[Heard]]:
    threads, chain = project.settings.serve.threads, project.chain
    trained = Hop("trained", "transformers", way.tuned, chain)
    found = await proof.check_tokens(replace(trained, name="adapter")) if way.tuned.format == "adapter" else []
    names, before = ["trained"], None
    if way.tuned.format == "adapter":
        names.append("adapter")
        with project.progress.task("Asking the trained adapter"):
            before = await proof.listen(replace(trained, name="adapter"), threads=threads)
    heard: list[Heard] = []
    for step in way.steps:
        first, last = step is way.steps[0], step is way.steps[-1]
        trimmed = any(each.name == "trim" for each in way.steps[: way.steps.index(step) + 1])
        name = ("merged" if way.tuned.format == "adapter" else "trained model") if first else f"after {step.name}"
        hop = Hop(name, "transformers", step.model, chain, trimmed)
        names.append(name)
        found += await proof.check_tokens(hop)
        if first and way.tuned.format == "adapter":
            found += proof.check_merge(hop, way.tuned)
        if (first and before is not None) or last:
            with project.progress.task(f"Asking the model {name}"):
                heard = await proof.listen(hop, threads=threads)
            if first and before is not None:
                found += proof.check_scores(hop, before, heard)
    notes = []
    if way.changed:
        told = ", ".join(step.name for step in way.steps[1:])
        notes.append(
            f"Weights were changed on purpose after merging ({told}): exports are compared with what came of it."
        )
    if proof.left_out:
        notes.append(
            f"{proof.left_out} conversations are not learned from; hops are compared with the base's rendering."
        )
    if not proof.asked:
        notes.append("No conversation ends with an answer that is learned: likelihoods and answers are not compared.")
    return ParityReport("", tuple(names), tuple(found), proof.conversations, len(proof.asked), tuple(notes)), heard


async def _hold(proof: Proof, hop: Hop, url: str, name: str, api_key: str, project: Project) -> list[Any]:
    """Return what a running server counts and answers, held against the trainer and the candidate's engine."""
    from vivace.chain import stack
    from vivace.parity import scoring

    whole = [each for each in proof.expected if each.ask.room is None]
    limit = project.settings.parity.max_tokens
    async with server.ask_server(url, name, api_key) as remote:
        with project.progress.task(f"Asking {url}"):
            counted = await server.count(remote, whole)
            answers = [Heard(item.id, (), *await scoring.listen(remote, item, limit)) for item in proof.asked]
    found = server.count_findings(url, whole, counted, _suspects(proof, str(hop.chain.get("system", ""))))
    with project.progress.task(f"Asking {hop.name}"):
        async with open_engine(
            hop.engine, hop.model, threads=project.settings.serve.threads, prefix_cache=False
        ) as engine:
            responder = stack(engine, hop.chain)
            ours = [Heard(item.id, (), *await scoring.listen(responder, item, limit)) for item in proof.asked]
    found.append(scoring.answers_finding(url, ours, answers))
    return found


def _suspects(proof: Proof, system: str) -> list[server.Suspect]:
    tokenizer = proof.tokenizer
    bare = len(tokenizer.encode(proof.facts.default_system))
    told = 0
    if system:
        hello = (Message("user", "Hello"),)
        try:
            with_rules = tokenizer.encode_chat((Message("system", system), *hello))
            told = len(with_rules) - len(tokenizer.encode_chat(hello))
        except VivaceError:  # such as a template without system prompts
            told = 0
    ending = len(tokenizer.encode(proof.speech.generation_prompt))
    first = proof.asked[0].prompt_ids[0]
    has_bos = proof.words.piece(first) == proof.facts.first
    return server.suspects_of(ending, bare, abs(told), has_bos=has_bos)


def _released(project: Project, candidates: Mapping[str, Candidate]) -> tuple[str, Candidate] | None:
    """Return the newest release as a candidate of its own, with the name of today's candidate that it is."""
    from vivace.release import open_release

    found = project.store.artifacts("release")
    if not found:
        return None
    item = open_release(found[0].path).candidate
    same = candidates.get(item.name)
    if same is None or (same.model.artifact_id, same.chain) != (item.model.artifact_id, item.chain):
        project.progress.say(f"Release {found[0].short_id} is not of today's candidates: it is not proved again.")
        return None
    return item.name, replace(item, name=f"release {found[0].short_id}")


def _proof(project: Project, way: Way, dataset: Artifact) -> Proof:
    settings, system = project.settings.parity, project.settings.project.system
    check_bounds(settings.bounds)
    tokenizer = ChatTokenizer.open(way.words)
    examples = list(read_examples(dataset.path / "examples.jsonl", "test"))
    chosen = choose(examples, settings, Words(way.words).specials())
    if not chosen:
        raise DataError("There is no conversation to compare.", "Raise parity.awkward, or add test conversations.")
    return Proof(way.words, trainer_of(tokenizer, system), system, chosen, settings)


def _asked(project: Project) -> dict[str, Any]:
    settings = table(project.settings.parity)
    return {key: value for key, value in settings.items() if key != "enabled"} | {
        "system": project.settings.project.system
    }


def _parents(project: Project, way: Way, dataset: Artifact) -> dict[str, str]:
    parents = {"dataset": dataset.id, "words": project.digest(way.words), "tuned": _identity(project, way.tuned)}
    return parents | {f"step {step.name}": _identity(project, step.model) for step in way.steps}


def _identity(project: Project, model: Model) -> str:
    return model.artifact_id or project.digest(model.path)


def _told(project: Project) -> Note:
    def note(name: str, reused: bool) -> None:
        project.progress.say(f"[dim]✓ {name}: unchanged[/dim]" if reused else f"✓ {name}")

    return note
