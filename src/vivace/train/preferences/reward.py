"""From ratings and pairs to a model that scores answers, or to the honest word that it is no better than chance.

It is an encoder with a scalar head, not the tuned chatbot with one. Scoring four answers then costs about a tenth of
what SmolLM2-135M's layers would (10.6 against 106 million weights for each token), so that reranking pays on a CPU;
and its scores do not depend on any chatbot's tokenizer, so that they stay valid when the chatbot is trained anew.
"""

from pathlib import Path
from typing import Any

import msgspec

from vivace.config.reward import RewardSettings
from vivace.domain import Model, Workspace
from vivace.errors import DataError, ModelError
from vivace.models.encoders.graph import EncoderGraph
from vivace.models.encoders.reward import FILE, RewardCard, context_text, turn_text
from vivace.models.encoders.tokens import EncoderTokenizer
from vivace.store import read_examples
from vivace.store.files import write_atomic
from vivace.train.batches.rows import IGNORED, Row
from vivace.train.preferences.rows import ALONE, Preferences, Said, judge_preferences
from vivace.train.quiet import quiet_libraries

PREFERENCES = "preferences.jsonl"
HISTORY = "history.jsonl"
ENOUGH = 20
"""With fewer held-out pairs and ratings of the test split, the validation split decides."""


def train_reward(dataset: Path, encoder: Model, settings: RewardSettings, workspace: Workspace) -> dict[str, Any]:
    """Fine-tune an encoder on the dataset's preferences and return the facts.

    `out` gets `model/` (Hugging Face folder, OpenVINO graph, `reward.json`) and `history.jsonl`. An interrupted run
    ends with the same weights, bit by bit. Raises `ModelError` where the scores of held-out answers are not better
    than chance, length set aside: then nothing is published.
    """
    tokenizer = EncoderTokenizer(encoder.path, settings.max_length)
    with workspace.progress.task("Encoding the preferences"):
        train, validation, test = (
            read_preferences(dataset, split, tokenizer, settings) for split in ("train", "validation", "test")
        )
    _check(train, validation)
    with quiet_libraries():
        facts = _train(train, validation, tokenizer, encoder, settings, workspace)
        facts |= _measure(validation, test, settings, workspace)
    write_atomic(workspace.out / HISTORY, (workspace.scratch / HISTORY).read_bytes())
    return facts | {"left_out": _left_out(train)}


def read_preferences(dataset: Path, split: Any, tokenizer: EncoderTokenizer, settings: RewardSettings) -> Preferences:
    """Return the judged answers of a split; ratings of answers that are in a pair are left to the pair."""
    from vivace.train.preferences.reward_lesson import without_paired

    if not (dataset / PREFERENCES).is_file():
        raise DataError(
            f"The dataset {dataset.name[:12]} has no {PREFERENCES}: nobody compared or rated an answer.",
            "Add ratings or pairs to [data].",
        )

    def encode(said: list[Said]) -> tuple[dict[int, Row], dict[int, str]]:
        texts = [(context_text(one.example.prompt), turn_text(one.answer)) for one in said]
        rows = tokenizer.pairs(texts)
        return {
            place: Row(row.ids, (IGNORED,) * row.second + row.ids[row.second :]) for place, row in enumerate(rows)
        }, {}

    return without_paired(judge_preferences(read_examples(dataset / PREFERENCES, split), settings.min_raters, encode))


def _check(train: Preferences, validation: Preferences) -> None:
    hint = "Add rows with a rejected answer or a rating to [data], or lower min_raters in [train.reward]."
    if not (train.pairs or train.ratings):
        told = ", ".join(f"{reason} ({count})" for reason, count in _left_out(train).items()) or "there is none"
        raise DataError(f"There is no preference to learn from: {told}.", hint)
    if not train.pairs and len({rated.good for rated in train.ratings}) < 2:
        raise DataError("All rated answers are rated alike, so nothing tells good ones from bad ones.", hint)
    if not (validation.pairs or len({rated.good for rated in validation.ratings}) > 1):
        raise DataError(
            "There is nothing to validate on: no pair, nor both good and bad answers.",
            "Raise validation_fraction in [data].",
        )


def _left_out(preferences: Preferences) -> dict[str, int]:
    """Return how many preferences were left out, by reason; what makes no pair may still be a rating."""
    pairs = {reason: count for reason, count in preferences.left_out_pairs.items() if reason != ALONE}
    return preferences.left_out | preferences.left_out_ratings | pairs


def _train(
    train: Preferences,
    validation: Preferences,
    tokenizer: EncoderTokenizer,
    encoder: Model,
    settings: RewardSettings,
    workspace: Workspace,
) -> dict[str, Any]:
    from vivace.train import machine
    from vivace.train.encoders.opening import open_classifier
    from vivace.train.encoders.session import run_key, train_encoder
    from vivace.train.preferences.reward_lesson import RewardLesson

    on = machine.device()
    lesson = RewardLesson(tokenizer, train, validation, settings.max_length_bias, on)
    for kind, bias in lesson.biases.items():
        if bias.reweighted:
            workspace.progress.say(
                f"The longer answer is liked in {bias.longer_preferred:.0%} of the {kind}: they are weighed so that "
                "length tells nothing."
            )
    with workspace.progress.task("Loading the encoder"):
        model = open_classifier(encoder, ["reward"], settings, on)
    key = run_key(encoder, settings, (train, validation))
    facts = train_encoder(model, lesson, lesson.lengths, encoder, settings, key, "Learning rewards", workspace)
    return facts | {
        "train_pairs": len(train.pairs),
        "train_ratings": len(train.ratings),
        "length_bias": msgspec.to_builtins(lesson.biases),
    }


def _measure(
    validation: Preferences, test: Preferences, settings: RewardSettings, workspace: Workspace
) -> dict[str, Any]:
    """Calibrate on validation, measure on test where it is large enough, write `reward.json` or refuse."""
    from vivace.train.preferences.reward_figures import deciding, fit_scale, held_out_figures
    from vivace.train.preferences.reward_lesson import encoded

    out = workspace.out / "model"
    graph = EncoderGraph(out, settings.max_length)

    def rewards(held: Preferences) -> Any:
        return graph.logits([encoded(row) for row in held.answers])[:, 0].astype(float)

    with workspace.progress.task("Measuring the reward model"):
        scale, offset = fit_scale(validation, rewards(validation))
        enough = len(test.pairs) + len(test.ratings) >= ENOUGH and (
            test.pairs or len({rated.good for rated in test.ratings}) > 1
        )
        held = test if enough else validation
        figures = held_out_figures(held, scale * rewards(held) + offset, settings.seed)
    where = "test" if enough else "validation"
    found = deciding(figures)
    if found is None or found[1]["low"] <= 0.5:
        raise ModelError(_refusal(found, figures, where), "Collect more ratings, or ratings that follow one rule.")
    card = RewardCard(scale, offset, settings.max_length, figures)
    write_atomic(out / FILE, msgspec.json.format(msgspec.json.encode(card), indent=1))
    return {"held_out": figures, "measured_on": where, "scale": scale, "offset": offset}


def _refusal(found: tuple[str, dict[str, float]] | None, figures: dict[str, Any], where: str) -> str:
    if found is None:
        return "The reward model cannot be measured, so it is not published."
    name, told = found
    kind = "pairs told right" if name == "even_accuracy" else "area under the ROC curve of ratings"
    count = figures["pairs" if name == "even_accuracy" else "ratings"]
    return (
        f"The reward model is not better than chance, so it is not published: {kind} {told['value']:.3f} "
        f"[{told['low']:.3f}, {told['high']:.3f}] on {count:,} of {where}, length set aside."
    )
