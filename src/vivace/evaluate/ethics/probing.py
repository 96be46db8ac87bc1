"""Probe a candidate, and report what two probed candidates told."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec

from vivace import __version__
from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Candidate, Message, Workspace
from vivace.engines import open_engine
from vivace.errors import DataError
from vivace.evaluate.ethics.asking import Heard, ask
from vivace.evaluate.ethics.figures import find, rule_on
from vivace.evaluate.ethics.inventory import Secret
from vivace.evaluate.ethics.memorized import known
from vivace.evaluate.ethics.plan import Plan
from vivace.evaluate.ethics.report import Case, EthicsReport, Named
from vivace.evaluate.ethics.signals import TOXIC, Signals
from vivace.evaluate.metrics.token_f1 import token_f1
from vivace.store.files import write_atomic

HEARD = "heard.json"
SHOWN = 5


def probe(
    candidate: Candidate, plan: Plan, settings: EvaluateSettings, workspace: Workspace, *, threads: int | None = None
) -> dict[str, Any]:
    """Ask a candidate the whole plan and write `heard.json`; started again after an interruption, it continues."""

    def opened() -> AbstractAsyncContextManager[Any]:
        # Without the prefix cache, whose contents would change the last bits of later answers.
        return open_engine(candidate.engine, candidate.model, threads=threads, prefix_cache=False)

    return probe_on(opened, candidate, plan, settings, workspace)


def probe_on(
    opened: Callable[[], AbstractAsyncContextManager[Any]],
    candidate: Candidate,
    plan: Plan,
    settings: EvaluateSettings,
    workspace: Workspace,
) -> dict[str, Any]:
    """Ask a candidate on the engine that `opened` opens."""
    questions, texts = plan.questions(), plan.texts()
    if not questions and not texts:
        raise DataError(
            "There is nothing to probe: no test conversation, no file and no secret.",
            "Hold out conversations, or name pairs, refusals or injections in [evaluate.ethics].",
        )
    heard = ask(opened, candidate, questions, texts, settings, workspace)
    write_atomic(workspace.out / HEARD, msgspec.json.encode(heard))
    failed = sum(bool(each.error) for each in heard.said.values())
    return {"candidate": candidate.name, "questions": len(questions), "texts": len(texts), "failed": failed}


def load_heard(folder: Path) -> Heard:
    """Read what `probe` wrote into `folder`; raises `DataError` when it is absent or damaged."""
    try:
        return msgspec.json.decode((folder / HEARD).read_bytes(), type=Heard)
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no {HEARD}.", "Run `vivace evaluate ethics`.") from error
    except msgspec.MsgspecError as error:
        raise DataError(f"{folder / HEARD} is damaged: {error}.", "Run `vivace evaluate ethics` again.") from error


def make_report(
    plan: Plan,
    candidate: tuple[str, Heard],
    base: tuple[str, Heard] | None,
    signals: Signals,
    settings: EvaluateSettings,
) -> EthicsReport:
    """Return the report of a candidate beside the base, each with its name."""
    name, heard = candidate
    before = base[1] if base is not None else None
    errors = _errors(heard, name) | (_errors(before, base[0]) if before is not None and base is not None else {})
    judged = {each.id for each in plan.injected if rule_on(each, heard).followed is not None}
    notes = list(plan.notes)
    if plan.injected:
        notes.append(
            f"{len(judged)} of {len(plan.injected)} attacks can be judged by rules; no rule tells whether the others, "
            "such as anagrams, were followed."
        )
    if plan.pairs:
        unknown = sum(f"pair/{each.id}/more" not in heard.likely for each in plan.pairs)
        reasons = {each.error for each in heard.likely.values() if each.error}
        notes += sorted(reasons)[:3]
        notes += [f"{unknown} pairs have no likelihood."] * bool(unknown)
    return EthicsReport(
        candidate=name,
        base=base[0] if base is not None else "",
        findings=tuple(find(plan, heard, before, signals, settings)),
        secrets=tuple(_named(plan, heard, before)),
        mentions=plan.mentions,
        cases=tuple(_cases(plan, heard, signals)),
        notes=tuple(notes),
        failed=errors,
        settings=settings.ethics.model_dump(mode="json"),
        version=__version__,
    )


def _errors(heard: Heard, name: str) -> dict[str, str]:
    return {f"{name}, {each.id}": each.error for each in heard.said.values() if each.error}


def _named(plan: Plan, heard: Heard, before: Heard | None) -> Iterator[Named]:
    targets = {_identity(target.secret): target for target in plan.targets}
    for secret in plan.secrets:
        target = targets.get(_identity(secret))
        now = known(target, heard) if target is not None else None
        then = known(target, before) if target is not None and before is not None else None
        yield Named(
            secret.kind,
            secret.veiled,
            secret.source or secret.example,
            secret.turn,
            secret.role,
            secret.occurrences,
            now.extracted if now else None,
            then.extracted if then else None,
            now.exposure if now else None,
            then.exposure if then else None,
        )


def _identity(secret: Secret) -> tuple[str, str]:
    return secret.kind, secret.value


def _cases(plan: Plan, heard: Heard, signals: Signals) -> Iterator[Case]:
    """Yield what a person should read: the largest gaps, wrong refusals, followed attacks, toxic answers."""
    versions = {each.id: each for each in plan.versions}
    first = {(each.dimension, each.example): each for each in reversed(plan.versions)}
    pairs = [(each, first[each.dimension, each.example]) for each in versions.values()]

    def quality(name: str) -> float:
        return token_f1(heard.said[name].text, versions[name].reference)

    gaps = sorted(pairs, key=lambda pair: -abs(quality(pair[0].id) - quality(pair[1].id)))
    for one, other in gaps[:SHOWN]:
        if (gap := quality(one.id) - quality(other.id)) != 0:
            why = f"token_f1 {gap:+.2f}, {one.group} less {other.group}"
            texts = (heard.said[other.id].text, heard.said[one.id].text)
            yield Case("swaps", why, _last(one.messages), f"{other.group}: {texts[0]} / {one.group}: {texts[1]}")
    wrong: Mapping[bool, list[Case]] = {True: [], False: []}
    for request in plan.requests:
        said = heard.said[f"request/{request.id}"]
        if not said.error and signals.refuses(said.text) is request.safe:
            why = "harmless, refused" if request.safe else "harmful, not refused"
            wrong[request.safe].append(Case("requests", why, _last(request.messages), said.text))
    yield from (*wrong[True][:SHOWN], *wrong[False][:SHOWN])
    followed = [each for each in plan.injected if rule_on(each, heard).followed]
    for each in followed[:SHOWN]:
        why = f"{each.attack.kind}, told by {rule_on(each, heard).rule}: {each.attack.text}"
        yield Case("injection", why, each.document.question, heard.said[f"attack/{each.id}"].text)
    toxic = [
        (question, text)
        for question in plan.questions()
        if (text := heard.said[question.id].text) and signals.toxicity(text) >= TOXIC
    ]
    yield from (Case("answers", "toxic words", _last(question.messages), text) for question, text in toxic[:SHOWN])


def _last(messages: tuple[Message, ...]) -> str:
    return next((message.content for message in reversed(messages) if message.role == "user"), "")
