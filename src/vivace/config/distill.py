"""The table `[train.distill]` of `vivace.toml`: a student that learns from a teacher."""

from typing import Annotated, Literal

from pydantic import Field

from vivace.config.table import Count, Fraction, Table


class DistillSettings(Table):
    """A student learns from a teacher, after the teacher was tuned."""

    method: Literal["none", "logits", "gkd", "answers", "prompt"] = "none"
    """`logits` learns the teacher's distribution on the dataset's answers, `gkd` also on the student's own answers,
    `answers` learns texts that the teacher wrote, `prompt` what the teacher says with a prompt that the student does
    not see."""
    teacher: str = "tuned"
    """`tuned`, `base`, or a model's name or folder. Same tokenizer as the student, except for `answers`."""
    student: str = ""
    """What the student starts from: `tuned`, `base`, or a model's name or folder. Empty: the base; the tuned model for
    `prompt` and where `layers` is below 1."""
    layers: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of its layers that the student keeps, chosen evenly, the first and the last included."""
    tuning: Literal["full", "lora", "dora", "rslora"] = "full"
    """What of the student is trained, as `method` in [train]; adapters are merged at the end."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate. Empty: 3e-4 for full, else as in [train]."""
    max_tokens: Count | None = 40_000
    """Stop after so many training tokens (padding not counted). Empty: by `num_train_epochs` alone."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training split, if `max_tokens` does not end it earlier."""
    alpha: Fraction | None = None
    """Weight of the teacher in the loss; the rest is the dataset's own answers. Empty: 0.5 for logits, else 1."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Both distributions are softened by it; the divergence is scaled by its square."""
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    """How student and teacher are compared: the student covers all that the teacher says, keeps to what the teacher
    is sure of, or between the two."""
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Where `jsd` lies between forward (near 0) and reverse (near 1) KL."""
    lmbda: Fraction = 0.5
    """Share of `gkd`'s batches whose answers the student itself writes."""
    max_new_tokens: Count = 64
    """Longest answer that the student writes for `gkd`."""
    sampling_temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Temperature at which the student writes for `gkd`."""
    teacher_system: str = ""
    """System prompt that only the teacher of `prompt` sees: text, or file:PATH. Empty: the project's."""
    teacher_examples: Annotated[int, Field(ge=0, le=32)] = 3
    """Conversations of the train split that only the teacher of `prompt` sees."""
    teacher_export: Literal["none", "openvino-int8", "openvino-fp16", "onnx-int4", "onnx-int8"] = "openvino-int8"
    """What the teacher of `answers` is exported to before it writes. none: transformers."""
    samples: Annotated[int, Field(ge=1, le=32)] = 1
    """Answers that the teacher writes to each prompt; the best is kept. 1: one, without chance."""
    answer_temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    """Temperature of several `samples`."""
    max_answer_tokens: Count = 128
    """Longest answer of the teacher; longer ones are left out."""
    min_token_f1: Fraction = 0.2
    """Leave answers out that have less in common with the dataset's own answer (token F1)."""
    keep_originals: bool = True
    """The student of `answers` learns the dataset's own answers, too."""
