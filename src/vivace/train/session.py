"""One training session: the model opened, the trainer made, run from the start or from a checkpoint."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vivace.config.train import TrainSettings
from vivace.domain import Model, Task, Workspace
from vivace.errors import ModelError
from vivace.models import check_data_only, load_causal_lm
from vivace.train.adapters import prepare_weights, write_model
from vivace.train.checkpoints import Checkpoint
from vivace.train.course import Course, Interruption
from vivace.train.machine import device
from vivace.train.methods import learning_rate
from vivace.train.recovery.divergence import SLOWER
from vivace.train.trainer import ChatTrainer
from vivace.train.workers.group import Group
from vivace.train.workers.job import Job


def open_for_training(base: Model, settings: TrainSettings, dtype: str, device: str, start: Path | None = None) -> Any:
    """Load the base, or the tuned model in `start` on it, and free the weights that are trained.

    Adapters stay in float32 whatever the base is in (TRL trains those of qlora in bfloat16); a full run keeps float32
    weights and computes in `dtype`.
    """
    from transformers import set_seed

    set_seed(settings.seed)
    if settings.method == "qlora":
        return prepare_weights(_load_quantized(base, dtype), base, settings, start)
    stored = dtype if settings.method != "full" and device == "cuda" else "float32"
    whole = start if start is not None and settings.method == "full" else base.path
    return prepare_weights(load_causal_lm(whole, stored), base, settings, start)


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
    model: Any, job: Job, course: Course, scratch: Path, task: Task, wish: Interruption, group: Group
) -> ChatTrainer:
    """Return the trainer of this run."""
    from datasets import Dataset

    settings = job.settings
    if settings.gradient_checkpointing:
        # Without the trainer's own switch: that one lets gradients through every layer down to the embeddings.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    configurations = [copy.deepcopy(model.config), copy.deepcopy(model.generation_config)]
    trainer = _kind(job)(
        plan=job.plan,
        course=course,
        rows=job.rows,
        validation=job.validation,
        scratch=scratch,
        key=job.key,
        task=task,
        wish=wish,
        group=group,
        micro_batch=job.micro_batch,
        smoothing=settings.label_smoothing_factor,
        pack_to=settings.max_length if settings.packing else None,
        average_checkpoints=settings.average_checkpoints,
        model=model,
        args=_arguments(job, scratch),
        train_dataset=Dataset.from_dict({"labels": [[0]]}),  # the rows are served by the plan
        processing_class=_tokenizer(job.base, model.config),
    )
    # What a trainer thinks of special tokens is not the model's business: it is saved as it came.
    model.config, model.generation_config = configurations
    return trainer


def _kind(job: Job) -> Callable[..., ChatTrainer]:
    if job.lesson is None:
        return ChatTrainer
    from vivace.train.distillation.trainer import DistillTrainer

    return partial(DistillTrainer, lesson=job.lesson, dtype=job.dtype)


def run(trainer: ChatTrainer, found: Checkpoint | None, job: Job, workspace: Workspace) -> int:
    """Train to the end, or on from a checkpoint, and return the steps done."""
    course, plan = trainer.course, trainer.plan
    if found is None:
        course.restart()
        course.micro_batch, course.rolled_back = job.micro_batch, job.rolled_back
        if course.validates:
            trainer.evaluate()
        trainer.train()
        return int(trainer.state.global_step)
    course.restore(found.notes, found.step)
    trainer.slower = SLOWER ** (job.rolled_back - course.rolled_back)
    course.micro_batch, course.rolled_back = job.micro_batch, job.rolled_back
    trainer.task.advance(plan.tokens_until(found.step))
    workspace.progress.say(f"Training continues after step {found.step:,} of {plan.steps:,}.")
    if found.step < plan.steps and not course.stopped_early:
        trainer.train(resume_from_checkpoint=str(found.folder))
        return int(trainer.state.global_step)
    trainer._load_from_checkpoint(str(found.folder))
    return found.step


def write(trainer: ChatTrainer, base: Model, settings: TrainSettings, out: Path) -> None:
    """Write the trained model, once on each machine."""
    if trainer.group.writes:
        write_model(bare(trainer), base, settings, out)
    trainer.group.barrier()


def bare(trainer: ChatTrainer) -> Any:
    """Return the trained model without what distributed training may have put around it."""
    return trainer.accelerator.unwrap_model(trainer.model)


def own_folder(scratch: Path, group: Group) -> Path:
    """Return where a worker keeps its journal: only the first one on a machine keeps it in the scratch folder."""
    return scratch if group.writes else scratch / f"worker-{group.rank}"


def check_same_checkpoint(found: Checkpoint | None, group: Group) -> None:
    """Raise `ModelError` where machines would go on from different checkpoints."""
    steps = {int(step) for (step,) in group.gather([found.step if found else 0])}
    if len(steps) > 1:
        raise ModelError(
            f"The machines hold checkpoints of different steps: {', '.join(f'{step:,}' for step in sorted(steps))}.",
            "Copy .vivace/work of the machine that is farthest to the others, or delete it on all of them.",
        )


def _arguments(job: Job, scratch: Path) -> Any:
    from trl.trainer.sft_config import SFTConfig

    settings, plan = job.settings, job.plan
    return SFTConfig(
        output_dir=str(scratch),
        max_steps=plan.steps,
        per_device_train_batch_size=1,  # a step, whatever rows it has
        learning_rate=learning_rate(settings) * SLOWER**job.rolled_back,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=round(settings.warmup_ratio * plan.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        neftune_noise_alpha=settings.neftune_noise_alpha or None,
        optim="adamw_torch_fused",
        use_cpu=device() == "cpu",
        bf16=job.dtype == "bfloat16",
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
