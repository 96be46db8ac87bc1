"""The table `[train.intent]` of `vivace.toml`, and what all tables of encoders have in common."""

from typing import Annotated, Literal

from pydantic import Field

from vivace.config.table import Count, Fraction, Table


class EncoderSettings(Table):
    """How an encoder (BERT-like) is fine-tuned. Names follow Hugging Face where they exist."""

    encoder: str = "all-minilm-l6-v2"
    """A name from `vivace models list`, a Hugging Face name, or a model folder of a BERT-like encoder."""
    revision: str = "main"
    """Revision of a Hugging Face model."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 6.0
    """Passes over the training rows, if nothing ends training earlier."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate; it rises over `warmup_ratio` of the steps and falls linearly to 0."""
    per_device_train_batch_size: Count = 32
    """Rows per step."""
    warmup_ratio: Fraction = 0.1
    """Share of the steps over which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient norm above which gradients are scaled down."""
    freeze_layers_fraction: Fraction = 0.0
    """Share of the encoder's layers, counted from below, that stay as they are, with the embeddings. 0: all learn."""
    max_length: Count = 64
    """Longest text in tokens; what is longer is cut."""
    eval_steps_fraction: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Validate and save a checkpoint after each such share of the steps."""
    early_stopping_patience: Count = 3
    """Stop after so many validations without a better one."""
    seed: int = 0
    """Seed of initialization, shuffling, dropout and resampling."""


class IntentSettings(EncoderSettings):
    """Telling the intent of a user's message; the labels are those of `data.label.intent_field`."""

    class_weights: Literal["none", "balanced"] = "balanced"
    """`balanced` lets each intent count alike, however many messages it has."""
    label_smoothing_factor: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of each label's probability that is spread over all intents."""
    min_examples: Count = 4
    """Intents with fewer training messages are not learned: their messages count as out of scope."""
    out_of_scope: str = "oos"
    """The label that says a message has none of the intents."""
    out_of_scope_weight: Annotated[float, Field(ge=0)] = 0.5
    """How much training messages out of scope count: they teach the model to be unsure. 0: not at all."""
    threshold_for: Literal["precision", "coverage"] = "precision"
    """What the threshold below which the classifier abstains must keep, found on validation messages."""
    threshold_target: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """The share of answered messages that are right (`precision`), or of messages in scope that are answered
    (`coverage`)."""
