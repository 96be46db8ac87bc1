"""The table `[train]` of `vivace.toml`, with its tables for preferences and search."""

from typing import Annotated, Any, Literal

from pydantic import Field

from vivace.config.distill import DistillSettings
from vivace.config.intent import IntentSettings
from vivace.config.reward import RewardSettings
from vivace.config.table import Count, Fraction, Table


class PreferenceSettings(Table):
    """Learning from ratings and pairs (`preferences.jsonl`), after the conversations."""

    method: Literal["none", "dpo", "kto"] = "none"
    """`dpo` learns from pairs of answers, `kto` from single answers that somebody rated good or bad."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """How closely the model stays to the one before."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate. Empty: 5e-5 for adapters, 1e-6 for all weights."""
    max_tokens: Count | None = 20_000
    """Stop after so many tokens (prompt and answers, padding not counted)."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the preferences, if `max_tokens` does not end it earlier."""
    max_length_bias: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Preferences are reweighted when the longer answer is liked in more than this share above one half. 0.5: never."""
    min_raters: Count = 1
    """Leave preferences out for which fewer people are known to have rated."""


class SearchSettings(Table):
    """Search for better settings on the validation split; the winner is trained anew and compared with the default."""

    method: Literal["none", "grid", "random", "tpe", "gp"] = "none"
    """How the next settings to try are chosen."""
    space: dict[str, Any] = {}
    """What to vary: a list of values, or a table with low, high and log, for each setting of [train]. Empty: learning
    rate, batch size, rank and layers."""
    pruner: Literal["none", "asha", "hyperband"] = "asha"
    """Which trials end early."""
    trials: Count = 12
    """At most so many settings are tried."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Stop starting trials after so many minutes. Empty: no limit."""
    tokens_per_trial: Count = 8_000
    """Training tokens of a full trial."""
    workers: Annotated[Count, Field(exclude=True)] = 1
    """Processes that try settings at once, each with its share of the cores and, where there are some, a GPU."""


class TrainSettings(Table):
    """How the base becomes the domain's model. Names and defaults follow Hugging Face where they exist."""

    method: Literal["lora", "dora", "rslora", "qlora", "prompt_tuning", "ia3", "full"] = "lora"
    """`full` trains all weights, the others small additions to frozen ones; `qlora` needs a CUDA device."""
    max_tokens: Count | None = 40_000
    """Stop after so many training tokens (padding not counted). Empty: by `num_train_epochs` alone."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training split, if `max_tokens` does not end training earlier."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate. Empty: 2e-3 for lora, dora and qlora, 5e-4 for rslora, 1e-2 for ia3, 3e-2 for prompt_tuning,
    1e-4 for full."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    """Shape of the learning rate over the steps."""
    warmup_ratio: Fraction = 0.05
    """Share of the steps over which the learning rate rises."""
    per_device_train_batch_size: Count = 4
    """Conversations per step."""
    gradient_accumulation_steps: Count = 1
    """Steps whose gradients are added up before one update."""
    max_length: Count = 512
    """Longest training conversation in tokens; longer ones lose their oldest turns."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW weight decay."""
    label_smoothing_factor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label's probability that is spread over all tokens."""
    neftune_noise_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Strength of the noise added to embeddings while training (NEFTune). 0: none."""
    freeze: list[str] = []
    """Weights that `full` leaves as they are: parts of their names, such as "embed_tokens" or "layers.0."."""
    average_checkpoints: Count = 1
    """The model is the mean of the weights of so many best checkpoints. 1: the best one alone."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third slower."""
    packing: bool = False
    """Put the conversations of a step into few rows of up to `max_length`; they do not see one another."""
    train_sampling_strategy: Literal["shuffled", "curriculum"] = "shuffled"
    """Order of the conversations: shuffled, or in stages from easy to hard."""
    curriculum: Literal["length", "turns", "loss"] = "length"
    """What makes a conversation hard, for the order `curriculum`: tokens, turns, or the base model's loss."""
    curriculum_stages: Annotated[int, Field(ge=2, le=10)] = 3
    """Stages of the order `curriculum`; each adds the next harder share."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient norm above which gradients are scaled down."""
    lora_r: Count = 16
    """Rank of the adapters."""
    lora_alpha: Count = 32
    """Scale of the adapters."""
    lora_dropout: Fraction = 0.0
    """Dropout inside the adapters."""
    lora_target_modules: str | list[str] = "all-linear"
    """Which linear layers get adapters; ia3 rescales keys, values and the feed-forward blocks instead."""
    num_virtual_tokens: Count = 16
    """Learned tokens that stand before every prompt (prompt tuning)."""
    lora_layers_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the layers, counted from the top, that get adapters; 0.5 trains about a third faster."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of training. auto: bfloat16 where the hardware is fast at it, else float32."""
    eval_steps_fraction: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Validate and save a checkpoint after each such share of the steps."""
    metric_for_best_model: Literal["loss", "token_accuracy"] = "loss"
    """What tells the best checkpoint and stops training early, on the validation split."""
    early_stopping_patience: Count = 2
    """Stop after so many validations without a better one."""
    max_validation_examples: Count = 24
    """Validation examples used while training."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """With `--from`: share of the training conversations that come from what the model learned before."""
    workers: Count = 1
    """Processes that share each step's conversations, on one machine or as torchrun's variables say."""
    seed: int = 0
    """Seed of initialization, shuffling and dropout."""
    price_per_hour: Annotated[float | None, Field(ge=0, exclude=True)] = None
    """Price of this machine per hour, in any currency: estimates and runs then tell their cost. It decides nothing."""
    distill: DistillSettings = DistillSettings()
    """A student that learns from a teacher."""
    preference: PreferenceSettings = PreferenceSettings()
    """Learning from ratings and pairs, after the conversations."""
    search: SearchSettings = SearchSettings()
    """Search for better settings."""
    # Models of their own: what they are like decides nothing about this one.
    intent: Annotated[IntentSettings, Field(exclude=True)] = IntentSettings()
    """Telling the intent of a user's message (`vivace train intents`)."""
    reward: Annotated[RewardSettings, Field(exclude=True)] = RewardSettings()
    """Scoring answers, from ratings and pairs (`vivace train reward`)."""
