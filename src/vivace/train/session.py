"""One training session: the model opened, the trainer made, run from the start or from a checkpoint."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivace.config.train import TrainSettings
from vivace.domain import Model, Task, Workspace
from vivace.models import check_data_only, load_causal_lm
from vivace.train.adapters import prepare_weights
from vivace.train.batches.plan import Plan
from vivace.train.batches.rows import Row
from vivace.train.checkpoints import Checkpoint
from vivace.train.course import Course, Interruption
from vivace.train.machine import device
from vivace.train.methods import learning_rate
from vivace.train.trainer import ChatTrainer


def open_for_training(base: Model, settings: TrainSettings, dtype: str, device: str) -> Any:
    """Load the base and free the weights that are trained.

    Adapters stay in float32 whatever the base is in (TRL trains those of qlora in bfloat16); a full run keeps float32
    weights and computes in `dtype`.
    """
    from transformers import set_seed

    set_seed(settings.seed)
    if settings.method == "qlora":
        return prepare_weights(_load_quantized(base, dtype), base, settings)
    stored = dtype if settings.method != "full" and device == "cuda" else "float32"
    return prepare_weights(load_causal_lm(base.path, stored), base, settings)


def _load_quantized(base: Model, dtype: str) -> Any:
    """Load the base in 4-bit NormalFloat with doubly quantized scales, Dettmers et al. 2023, arXiv:2305.14314."""
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    check_data_only(base.path)
    make: Any = BitsAndBytesConfig
    prepare: Any = prepare_model_for_kbit_training
    loaded = AutoModelForCausalLM.from_pretrained(
        base.path,
        quantization_config=make(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        ),
        attn_implementation="sdpa",
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    return prepare(loaded, use_gradient_checkpointing=False)


def make_trainer(
    model: Any,
    rows: Sequence[Row],
    validation: Sequence[Row],
    plan: Plan,
    course: Course,
    base: Model,
    settings: TrainSettings,
    dtype: str,
    scratch: Path,
    key: str,
    task: Task,
    wish: Interruption,
) -> ChatTrainer:
    """Return the trainer of this run."""
    from datasets import Dataset

    if settings.gradient_checkpointing:
        # Without the trainer's own switch: that one lets gradients through every layer down to the embeddings.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    configurations = [copy.deepcopy(model.config), copy.deepcopy(model.generation_config)]
    trainer = ChatTrainer(
        plan=plan,
        course=course,
        validation=validation,
        scratch=scratch,
        key=key,
        task=task,
        wish=wish,
        smoothing=settings.label_smoothing_factor,
        pack_to=settings.max_length if settings.packing else None,
        average_checkpoints=settings.average_checkpoints,
        model=model,
        args=_arguments(plan, settings, dtype, scratch),
        train_dataset=Dataset.from_dict(
            {
                "input_ids": [row.ids for row in rows],
                "labels": [row.labels for row in rows],
                "share": [row.share for row in rows],
            }
        ),
        processing_class=_tokenizer(base, model.config),
    )
    # What a trainer thinks of special tokens is not the model's business: it is saved as it came.
    model.config, model.generation_config = configurations
    return trainer


def run(trainer: ChatTrainer, start: Checkpoint | None, workspace: Workspace) -> int:
    """Train to the end, or on from a checkpoint, and return the steps done."""
    course, plan = trainer.course, trainer.plan
    if start is None:
        course.restart()
        if course.validates:
            trainer.evaluate()
        trainer.train()
        return int(trainer.state.global_step)
    course.restore(start.notes, start.step)
    trainer.task.advance(plan.tokens_until(start.step))
    workspace.progress.say(f"Training continues after step {start.step:,} of {plan.steps:,}.")
    if start.step < plan.steps and not course.stopped_early:
        trainer.train(resume_from_checkpoint=str(start.folder))
        return int(trainer.state.global_step)
    trainer._load_from_checkpoint(str(start.folder))
    return start.step


def bare(trainer: ChatTrainer) -> Any:
    """Return the trained model without what distributed training may have put around it."""
    return trainer.accelerator.unwrap_model(trainer.model)


def _arguments(plan: Plan, settings: TrainSettings, dtype: str, scratch: Path) -> Any:
    from trl.trainer.sft_config import SFTConfig

    return SFTConfig(
        output_dir=str(scratch),
        max_steps=plan.steps,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=learning_rate(settings),
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=round(settings.warmup_ratio * plan.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        neftune_noise_alpha=settings.neftune_noise_alpha or None,
        optim="adamw_torch_fused",
        use_cpu=device() == "cpu",
        bf16=dtype == "bfloat16",
        fp16=False,
        max_length=None,
        packing=False,
        gradient_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=settings.seed,
    )


def _tokenizer(base: Model, config: Any) -> Any:
    """Return a tokenizer whose special tokens are the model's own; the rows are already encoded without it."""
    from transformers import PreTrainedTokenizerFast

    make: Any = PreTrainedTokenizerFast
    tokenizer = make(tokenizer_file=str(base.path / "tokenizer.json"))
    for name in ("bos", "eos", "pad"):
        number = getattr(config, f"{name}_token_id", None)
        number = number[0] if isinstance(number, list) else number
        if number is not None:
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(number))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer
