"""A tiny seeded Llama-like chat model, built from nothing in a tenth of a second and without torch."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB_SIZE = 512
HIDDEN = 64
LAYERS = 2
HEADS = 4
KV_HEADS = 2
INTERMEDIATE = 128
CONTEXT_LENGTH = 1024
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

LINES = [
    "Hello, how can I help you today?",
    "I would like to know where my order is.",
    "Your order was sent yesterday and should arrive on Friday.",
    "Thank you very much! Can I change the address?",
    "Yes, you can change the address until the parcel leaves our warehouse.",
    "How do I reset my password?",
    "Open the settings, choose security and press reset password.",
    "What time is breakfast served in the hotel?",
    "Breakfast is served from seven to ten in the restaurant on the ground floor.",
    "The answer to the question is that there is no answer to the question.",
    "Room service is open around the clock; please dial nine on the telephone.",
    "We are sorry that your delivery is late and will refund the shipping costs.",
    "Could you tell me which payment methods you accept for an international booking?",
    "user assistant system",
]


def build_tiny_model(out: Path, *, seed: int = 0) -> Path:
    """Write a Hugging Face folder (Llama, 2 layers, 512 tokens, ChatML) under 1 MB into `out` and return it."""
    out.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(out / "tokenizer.json"))
    save_file(_weights(seed), str(out / "model.safetensors"), metadata={"format": "pt"})
    _write_json(
        out / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "dtype": "float32",
            "eos_token_id": 2,
            "head_dim": HIDDEN // HEADS,
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "initializer_range": 0.02,
            "intermediate_size": INTERMEDIATE,
            "max_position_embeddings": CONTEXT_LENGTH,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": KV_HEADS,
            "pad_token_id": 2,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
            "tie_word_embeddings": True,
            "use_cache": True,
            "vocab_size": VOCAB_SIZE,
        },
    )
    _write_json(out / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    _write_json(
        out / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": "<|im_start|>",
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "model_max_length": CONTEXT_LENGTH,
            "pad_token": "<|im_end|>",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<|endoftext|>",
        },
    )
    _write_json(
        out / "special_tokens_map.json",
        {
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
        },
    )
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return out


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=1,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def _weights(seed: int) -> dict[str, np.ndarray]:
    # Scales well above a fresh Llama's 0.02: the layers must outweigh the tied embedding of the last token,
    # or greedy answers repeat one token for ever.
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    kv = KV_HEADS * HIDDEN // HEADS
    weights = {"model.embed_tokens.weight": normal(VOCAB_SIZE, HIDDEN, scale=0.4)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        weights |= {
            f"{prefix}.input_layernorm.weight": np.ones(HIDDEN, np.float32),
            f"{prefix}.self_attn.q_proj.weight": normal(HIDDEN, HIDDEN, scale=0.2),
            f"{prefix}.self_attn.k_proj.weight": normal(kv, HIDDEN, scale=0.2),
            f"{prefix}.self_attn.v_proj.weight": normal(kv, HIDDEN, scale=0.2),
            f"{prefix}.self_attn.o_proj.weight": normal(HIDDEN, HIDDEN, scale=0.2),
            f"{prefix}.post_attention_layernorm.weight": np.ones(HIDDEN, np.float32),
            f"{prefix}.mlp.gate_proj.weight": normal(INTERMEDIATE, HIDDEN, scale=0.2),
            f"{prefix}.mlp.up_proj.weight": normal(INTERMEDIATE, HIDDEN, scale=0.2),
            f"{prefix}.mlp.down_proj.weight": normal(HIDDEN, INTERMEDIATE, scale=0.2),
        }
    weights["model.norm.weight"] = np.ones(HIDDEN, np.float32)
    return weights


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
