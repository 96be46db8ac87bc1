"""From a tuned model and people's preferences to a model that answers as they like."""

import hashlib
import random
import shutil
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from vivace.config.train import TrainSettings
from vivace.domain import Model, Workspace
from vivace.errors import ConfigError, DataError
from vivace.models import ChatTokenizer, check_data_only, load_causal_lm
from vivace.store import read_examples
from vivace.store.files import folder_digest, sync_tree, write_atomic
from vivace.train.batches.plan import Plan, make_plan
from vivace.train.preferences.rows import Pair, Preferences, Rated, gather_preferences
from vivace.train.quiet import quiet_libraries
from vivace.train.recovery.divergence import SLOWER

if TYPE_CHECKING:
    from vivace.train.preferences.objective import Objective
    from vivace.train.preferences.trainer import PreferenceTrainer

FILE = "preferences.jsonl"
HISTORY = "history.jsonl"
HELD_OUT = 200
"""Held-out answers that are examined before and after, if `max_validation_examples` does not ask for more."""
LEARNING_RATES = {"adapter": 5e-5, "hf": 1e-6}


def align(
    dataset_folder: Path, tuned: Model, base: Model, system: str, settings: TrainSettings, workspace: Workspace
) -> dict[str, Any]:
    """Go on from the tuned model, learn from preferences and return the facts; `out` gets `model/` and `history.jsonl`.

    The reference is the tuned model itself: what it makes of each answer is measured once and kept in the scratch
    folder, with the checkpoints. Started again there, an interrupted run ends with the same weights, bit by bit. The
    best checkpoint by held-out loss is kept; where none is better than the tuned model, that one is passed on as it
    is. `model/` has the tuned model's format.
    """
    if settings.preference.method == "none":
        raise ConfigError(
            'method in [train.preference] is "none": nothing is to be learned from preferences.', 'Set "dpo" or "kto".'
        )
    tokenizer = ChatTokenizer.open(_whole(tuned, base).path)
    longest = min(settings.max_length, tokenizer.context_length)
    with workspace.progress.task("Encoding the preferences"):
        train = _read(dataset_folder, "train", tokenizer, system, longest, settings)
        held = _read(dataset_folder, "validation", tokenizer, system, longest, settings)
    held = some_prompts(held, max(HELD_OUT, settings.max_validation_examples), settings.seed)
    with quiet_libraries():
        facts = _learn(train, held, tuned, base, longest, settings, workspace)
    write_atomic(workspace.out / HISTORY, (workspace.scratch / HISTORY).read_bytes())
    return facts


def some_prompts(preferences: Preferences, count: int, seed: int) -> Preferences:
    """Return the preferences on a random choice of prompts with `count` answers or a few more.

    Every other prompt is one with an answer of the scarcer kind while there are any: where most answers are good, a
    small sample would hold no bad one to tell them from.
    """
    answers_of: dict[int, list[int]] = {}
    for place, prompt in enumerate(preferences.prompts):
        answers_of.setdefault(prompt, []).append(place)
    prompts = list(answers_of)
    random.Random(f"vivace-preferences-{seed}").shuffle(prompts)
    good = sum(rated.good for rated in preferences.ratings)
    kind = 2 * good < len(preferences.ratings)
    scarce = {preferences.prompts[rated.answer] for rated in preferences.ratings if rated.good == kind}
    halves = [[prompt for prompt in prompts if (prompt in scarce) == wanted] for wanted in (True, False)]
    kept: list[int] = []
    for prompt in (prompt for both in zip_longest(*halves) for prompt in both if prompt is not None):
        if len(kept) >= count:
            break
        kept += answers_of[prompt]
    new = {old: place for place, old in enumerate(sorted(kept))}
    return msgspec.structs.replace(
        preferences,
        answers=tuple(preferences.answers[old] for old in new),
        prompts=tuple(preferences.prompts[old] for old in new),
        talks=tuple(preferences.talks[old] for old in new),
        pairs=tuple(Pair(new[p.chosen], new[p.rejected], p.share) for p in preferences.pairs if p.chosen in new),
        ratings=tuple(Rated(new[r.answer], r.good, r.share) for r in preferences.ratings if r.answer in new),
    )


def _read(
    folder: Path, split: Any, tokenizer: ChatTokenizer, system: str, longest: int, settings: TrainSettings
) -> Preferences:
    if not (folder / FILE).is_file():
        raise DataError(
            f"The dataset {folder.name[:12]} has no {FILE}: nobody compared or rated an answer.",
            'Add ratings or pairs to [data], or set method = "none" in [train.preference].',
        )
    examples = read_examples(folder / FILE, split)
    return gather_preferences(tokenizer, examples, system, longest, settings.preference.min_raters)


def _learn(
    train: Preferences,
    held: Preferences,
    tuned: Model,
    base: Model,
    longest: int,
    settings: TrainSettings,
    workspace: Workspace,
) -> dict[str, Any]:
    from vivace.train import adapters, checkpoints, machine
    from vivace.train.course import interruption
    from vivace.train.preferences.loss import AnswerProbabilities
    from vivace.train.preferences.objective import Dpo, Kto, Objective
    from vivace.train.preferences.scores import held_out_scores
    from vivace.train.preferences.trainer import PreferenceTrainer, References, measure

    wanted, scratch, rows_at_once = settings.preference, workspace.scratch, settings.per_device_train_batch_size
    objective: Objective = Dpo(train, wanted) if wanted.method == "dpo" else Kto(train, wanted, longest, settings.seed)
    plan = _plan(objective.lengths, settings)
    on = machine.device()
    kind = machine.arithmetic(settings.dtype, on)
    key = _key(train, held, tuned, base, settings, kind)
    sample = some_prompts(held, settings.max_validation_examples, settings.seed)
    _tell(train, sample, objective, wanted.method, workspace)
    with workspace.progress.task("Loading the tuned model"):
        model = open_tuned(tuned, base, settings, kind, on)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # Activations are never computed again here, whatever gradient_checkpointing says.
    depth = (
        1.0 if tuned.format == "hf" else adapters.depth(settings.model_copy(update={"gradient_checkpointing": False}))
    )
    machine.check_memory(machine.memory_needed(model, plan.longest_batch, depth), on, plan.longest_batch, trained)
    say = AnswerProbabilities(model, kind)
    references = References(scratch / f"reference-{key[:16]}.jsonl")
    rows = [row for item in _items(plan) for row in objective.rows_of(item)] + list(held.answers)
    began = time.monotonic()
    with workspace.progress.task("Measuring the tuned model", total=sum(len(row.ids) for row in set(rows))) as task:
        references.measure(rows, say, rows_at_once, task)
    reference_s = time.monotonic() - began
    rate = LEARNING_RATES[tuned.format] if wanted.learning_rate is None else wanted.learning_rate
    with interruption() as wish, workspace.progress.task("Learning preferences", total=plan.tokens) as task:
        trainer = PreferenceTrainer(
            model, objective, plan, references, say, sample, settings, rate, scratch, key, task, wish
        )
        trainer.run()
    if trainer.best_step not in (0, trainer.step):
        checkpoints.load_weights(model, scratch / f"{checkpoints.PREFIX}{trainer.best_step}")
    _write(trainer, tuned, base, settings, workspace)
    before = references.of(held.answers)
    after = measure(say, held.answers, rows_at_once) if trainer.best_step else before
    return {
        "preference_method": wanted.method,
        **objective.facts(),
        "left_out": train.left_out | (train.left_out_pairs if wanted.method == "dpo" else train.left_out_ratings),
        "length_bias": msgspec.to_builtins(objective.bias),
        **_course(trainer, plan),
        "beta": wanted.beta,
        "dtype": kind,
        "device": on,
        "trainable_parameters": trained,
        "held_out": held_out_scores(held, before, after, wanted.beta, settings.seed) if held.answers else None,
        "seconds": {"reference": round(reference_s, 3), "train": round(trainer.notes["train_s"], 3)},
    }


def _whole(tuned: Model, base: Model) -> Model:
    """Return the model with all weights, tokenizer and template: under an adapter that is the base."""
    return base if tuned.format == "adapter" else tuned


def _plan(lengths: Sequence[int], settings: TrainSettings) -> Plan:
    return make_plan(
        lengths,
        batch_size=settings.per_device_train_batch_size,
        accumulation=settings.gradient_accumulation_steps,
        epochs=settings.preference.num_train_epochs,
        max_tokens=settings.preference.max_tokens,
        seed=settings.seed,
    )


def _items(plan: Plan) -> list[int]:
    return list(dict.fromkeys(item for batch in plan.batches for item in batch))


def _key(train: Preferences, held: Preferences, tuned: Model, base: Model, settings: TrainSettings, dtype: str) -> str:
    """Return what tells this run from another one in the same scratch folder."""
    told = hashlib.sha256(settings.model_dump_json().encode())
    told.update(f"{folder_digest(tuned.path)[0]}\n{base.path}\n{dtype}\n".encode())
    told.update(msgspec.msgpack.encode((train, held)))
    return told.hexdigest()


def open_tuned(tuned: Model, base: Model, settings: TrainSettings, dtype: str, on: str) -> Any:
    """Load the tuned model with the weights free that its training made; dropout is off."""
    if tuned.format == "adapter":
        from peft import PeftConfig, PeftModel

        check_data_only(tuned.path)
        under = load_causal_lm(base.path, dtype if on == "cuda" else "float32")
        config = PeftConfig.from_pretrained(str(tuned.path), local_files_only=True)
        # PEFT opens virtual tokens only as frozen ones.
        virtual = bool(config.is_prompt_learning)
        model: Any = PeftModel.from_pretrained(under, str(tuned.path), is_trainable=not virtual, local_files_only=True)
        if virtual:
            model.prompt_encoder.requires_grad_(True)
    else:
        model = load_causal_lm(tuned.path, "float32")
        for name, weight in model.named_parameters():
            weight.requires_grad_(not any(part in name for part in settings.freeze))
    model.train(False)
    return model.to(on)


def _write(
    trainer: "PreferenceTrainer", tuned: Model, base: Model, settings: TrainSettings, workspace: Workspace
) -> None:
    from vivace.train import adapters

    out = workspace.out / "model"
    with workspace.progress.task("Writing the model"):
        if trainer.best_step:
            method = "full" if tuned.format == "hf" else "lora" if settings.method == "full" else settings.method
            adapters.write_model(
                trainer.model, _whole(tuned, base), settings.model_copy(update={"method": method}), out
            )
        else:
            shutil.copytree(tuned.path, out, dirs_exist_ok=True)
            sync_tree(out)
    if trainer.notes["rolled_back"]:
        rate = trainer.learning_rate * SLOWER ** trainer.notes["rolled_back"]
        workspace.progress.say(
            f"Learning from preferences diverged after step {trainer.notes['broken_after']:,}: it went back to the "
            f"checkpoint before and on with half the learning rate, {rate:g} in the end."
        )
    if not trainer.best_step:
        workspace.progress.say("Learning from preferences lowered no held-out loss: the tuned model stays as it was.")


def _tell(train: Preferences, sample: Preferences, objective: "Objective", method: str, workspace: Workspace) -> None:
    """Say what was left out, and what length has to do with being liked."""
    for reason, count in (
        train.left_out | (train.left_out_pairs if method == "dpo" else train.left_out_ratings)
    ).items():
        workspace.progress.say(f"{count:,} preferences left out: {reason}.")
    if objective.bias.longer_preferred > 0.5 and objective.bias.reweighted:
        workspace.progress.say(
            f"The longer answer is preferred in {objective.bias.longer_preferred:.0%} of the cases: they are weighed "
            "so that length tells nothing."
        )
    if objective.held_out_loss(sample, np.zeros(len(sample.answers))) is None:
        workspace.progress.say(
            "No preferences to validate on: the last checkpoint is kept, and nothing stops training early."
        )


def _course(trainer: "PreferenceTrainer", plan: Plan) -> dict[str, Any]:
    losses = [row["validation_loss"] for row in trainer.rows() if "validation_loss" in row]
    return {
        "steps": trainer.step,
        "planned_steps": plan.steps,
        "kept_step": trainer.best_step,
        "diverged_after_step": trainer.notes["broken_after"],
        "rolled_back": trainer.notes["rolled_back"],
        "tokens": plan.tokens_until(trainer.step),
        "learning_rate": trainer.learning_rate * SLOWER ** trainer.notes["rolled_back"],
        "history": HISTORY,
        "validation_loss_before": losses[0] if losses else None,
        "best_validation_loss": trainer.notes["best_loss"],
    }
