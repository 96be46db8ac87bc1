"""From a dataset's labels to a classifier of intents that knows when to abstain."""

import random
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vivace.config.intent import IntentSettings
from vivace.domain import Model, Workspace
from vivace.models.encoders.graph import EncoderGraph
from vivace.models.encoders.intents import FILE, Card
from vivace.models.encoders.tokens import EncoderTokenizer
from vivace.store.files import write_atomic
from vivace.train.intents.labels import OUT, Intents, Labeled, read_intents
from vivace.train.quiet import quiet_libraries

HISTORY = "history.jsonl"
REPORT = "report.json"
ENOUGH = 200
"""With fewer validation messages the same ones choose the checkpoint and set the threshold."""


def teach_intents(
    dataset: Path, field: str, encoder: Model, settings: IntentSettings, workspace: Workspace
) -> dict[str, Any]:
    """Fine-tune an encoder on a dataset's labels and return the facts.

    `out` gets `model/` (Hugging Face folder, OpenVINO graph, `intents.json`), `report.json` and `history.jsonl`.
    Checkpoints live in the scratch folder: an interrupted run ends with the same weights, bit by bit.
    """
    intents = read_intents(dataset, field, settings)
    choosing, calibrating = halves(intents.splits["validation"], settings.seed)
    _tell(intents, choosing is not calibrating, settings, workspace)
    with quiet_libraries():
        facts = _teach(intents, choosing, encoder, settings, workspace)
        out = workspace.out / "model"
        graph = EncoderGraph(out, settings.max_length)
        card, report = _measure(intents, calibrating, graph, encoder, settings, workspace)
    write_atomic(out / FILE, msgspec.json.format(msgspec.json.encode(card), indent=1))
    write_atomic(workspace.out / REPORT, msgspec.json.format(msgspec.json.encode(report), indent=1))
    write_atomic(workspace.out / HISTORY, (workspace.scratch / HISTORY).read_bytes())
    facts |= {name: value for name, value in report.items() if name not in ("per_intent", "confused")}
    facts["calibrated_on_unseen"] = choosing is not calibrating
    return facts


def halves(validation: Labeled, seed: int) -> tuple[Labeled, Labeled]:
    """Return the messages that choose the checkpoint and those that set temperature and threshold.

    With 200 or more they are not the same: a threshold found where the checkpoint was chosen would promise too much.
    """
    if len(validation) < ENOUGH:
        return validation, validation
    places = list(range(len(validation)))
    random.Random(f"vivace-intents-{seed}").shuffle(places)
    sides: tuple[list[int], list[int]] = ([], [])
    # Intent by intent, so that each half knows all of them.
    for number, place in enumerate(sorted(places, key=lambda place: validation.labels[place])):
        sides[number % 2].append(place)
    return validation.at(sides[0]), validation.at(sides[1])


def _tell(intents: Intents, apart: bool, settings: IntentSettings, workspace: Workspace) -> None:
    say = workspace.progress.say
    if intents.rare:
        say(
            f"{sum(intents.rare.values()):,} messages of {len(intents.rare):,} intents with fewer than "
            f"{settings.min_examples} training messages count as out of scope."
        )
    if not apart:
        say(f"Fewer than {ENOUGH} validation messages: the same ones choose the checkpoint and set the threshold.")
    if not any(label != OUT for label in intents.splits["test"].labels):
        say("No test message has one of the intents: nothing is measured.")


def _teach(
    intents: Intents, choosing: Labeled, encoder: Model, settings: IntentSettings, workspace: Workspace
) -> dict[str, Any]:
    from vivace.train import machine
    from vivace.train.encoders.opening import open_classifier
    from vivace.train.encoders.session import run_key, train_encoder
    from vivace.train.intents.lesson import IntentLesson

    on, names = machine.device(), intents.names
    with workspace.progress.task("Loading the encoder"):
        model = open_classifier(encoder, list(names), settings, on)
    tokenizer = EncoderTokenizer(encoder.path, settings.max_length)
    train, held = intents.splits["train"], choosing.at(i for i, label in enumerate(choosing.labels) if label != OUT)
    if not settings.out_of_scope_weight:
        train = train.at(i for i, label in enumerate(train.labels) if label != OUT)
    rows = tokenizer.texts(train.texts)
    lesson = IntentLesson(
        tokenizer, (rows, train.labels), (tokenizer.texts(held.texts), held.labels), len(names), settings, on
    )
    key = run_key(encoder, settings, (train, held, names))
    lengths = [len(row.ids) for row in rows]
    facts = train_encoder(model, lesson, lengths, encoder, settings, key, "Learning intents", workspace)
    return facts | {"intents": len(names)}


def _measure(
    intents: Intents,
    calibrating: Labeled,
    graph: EncoderGraph,
    encoder: Model,
    settings: IntentSettings,
    workspace: Workspace,
) -> tuple[Card, dict[str, Any]]:
    """Set temperature and threshold on validation, measure on test; all of it through the graph that serves."""
    from vivace.train.intents import calibration

    with workspace.progress.task("Setting the threshold"):
        logits = graph.logits(graph.tokenizer.texts(calibrating.texts))
    labels = np.array(calibrating.labels)
    within = labels != OUT
    temperature = calibration.fit_temperature(logits[within], labels[within])
    guessed, confidence = calibration.best(logits, temperature)
    if settings.threshold_for == "precision":
        threshold = calibration.threshold_for_precision(confidence, guessed == labels, settings.threshold_target)
    else:
        threshold = calibration.threshold_for_coverage(confidence[within], settings.threshold_target)
    if not threshold.kept:
        workspace.progress.say(
            f"A precision of {settings.threshold_target:.0%} cannot be promised from {len(labels):,} validation "
            f"messages: at the threshold it is {threshold.measured:.1%} of them."
        )
    right = (guessed == labels)[within]
    report: dict[str, Any] = {
        "temperature": temperature,
        "threshold": msgspec.to_builtins(threshold)
        | {"for": settings.threshold_for, "target": settings.threshold_target, "messages": len(labels)},
        "calibration_error": {
            "before": calibration.calibration_error(calibration.best(logits, 1.0)[1][within], right),
            "after": calibration.calibration_error(confidence[within], right),
        },
        "messages": {split: len(rows) for split, rows in intents.splits.items()},
        "rare": intents.rare,
    }
    report["test"] = None
    if any(label != OUT for label in intents.splits["test"].labels):
        report |= _examine(intents, graph, temperature, threshold.value, encoder, settings, workspace)
    figures = {name: report[name] for name in ("threshold", "calibration_error", "test")}
    card = Card(intents.names, temperature, threshold.value, settings.max_length, settings.out_of_scope, figures)
    return card, report


def _examine(
    intents: Intents,
    graph: EncoderGraph,
    temperature: float,
    threshold: float,
    encoder: Model,
    settings: IntentSettings,
    workspace: Workspace,
) -> dict[str, Any]:
    """Return the figures on the test messages, and how the simple classifiers do on the same ones."""
    from vivace.train import machine
    from vivace.train.intents import calibration, figures
    from vivace.train.intents.baselines import simple_guesses

    test, count, seed = intents.splits["test"], len(intents.names), settings.seed
    truth = np.array(test.labels)
    within = truth != OUT
    began = time.monotonic()
    guessed, confidence = calibration.best(graph.logits(graph.tokenizer.texts(test.texts)), temperature)
    per_message = 1000 * (time.monotonic() - began) / len(test)
    told = figures.in_scope_figures(truth[within], guessed[within], count, seed)
    told |= figures.selective_figures(truth, guessed, confidence, threshold)
    told["calibration_error"] = calibration.calibration_error(confidence[within], (guessed == truth)[within])
    told["ms_per_message"] = round(per_message, 3)
    baselines = {}
    for name, (simple, sure) in simple_guesses(
        encoder, intents, settings, machine.device(), workspace.progress
    ).items():
        baselines[name] = figures.in_scope_figures(truth[within], simple[within], count, seed)
        baselines[name]["out_of_scope_auc"] = figures.out_of_scope_auc(truth, sure)
        baselines[name] |= figures.compared(truth[within], guessed[within], simple[within], count, seed)
    workspace.progress.say(sentence(told, baselines))
    return {
        "test": told,
        "baselines": baselines,
        "confused": figures.confused(truth[within], guessed[within], intents.names),
        "per_intent": figures.per_intent(truth[within], guessed[within], intents.names),
    }


def sentence(test: dict[str, Any], baselines: dict[str, Any]) -> str:
    """Say whether the fine-tuned encoder pays: against the best of what needs no fine-tuning."""
    name, best = max(baselines.items(), key=lambda item: item[1]["macro_f1"]["value"])
    gain = best["macro_f1_gain"]
    figure = f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    ends = f"macro F1 {test['macro_f1']['value']:.3f} against {best['macro_f1']['value']:.3f}, {figure}"
    simple = name.replace("_", " ")
    if gain["low"] > 0:
        return f"The fine-tuned encoder is better than {simple} on the frozen one: {ends}."
    if gain["high"] < 0:
        return f"The fine-tuned encoder is worse than {simple} on the frozen one: {ends}."
    return f"The fine-tuned encoder does not differ from {simple} on the frozen one beyond noise: {ends}."
