"""A cut student is the model without the other layers."""

import json
from pathlib import Path

import pytest
import torch

from tests.train.distillation.material import build_deep_model
from vivace.errors import ModelError
from vivace.models import check_data_only, identify, load_causal_lm
from vivace.train.distillation.student import cut_layers, even_layers, layer_count


@pytest.mark.parametrize(
    ("count", "share", "kept"),
    [
        (30, 0.5, (0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29)),
        (4, 0.5, (0, 3)),
        (6, 0.5, (0, 2, 5)),
        (12, 0.01, (0, 11)),
        (2, 0.5, (0, 1)),
        (1, 0.5, (0,)),
        (5, 1.0, (0, 1, 2, 3, 4)),
    ],
)
def test_layers_are_spread_evenly_with_the_first_and_the_last(count: int, share: float, kept: tuple[int, ...]) -> None:
    assert even_layers(count, share) == kept


def test_a_cut_model_says_what_the_kept_layers_say(tmp_path: Path) -> None:
    whole = build_deep_model(tmp_path / "whole", 5)
    cut = cut_layers(whole, (0, 2, 4), tmp_path / "cut")
    check_data_only(cut)
    assert identify(cut).format == "hf"
    assert layer_count(cut) == 3
    assert json.loads((cut / "config.json").read_text())["tie_word_embeddings"] is True
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    ids = torch.arange(3, 20)[None]
    full, small = load_causal_lm(whole), load_causal_lm(cut)
    assert small.get_output_embeddings().weight is small.get_input_embeddings().weight
    # The other layers' outputs are what went in.
    for place in (1, 3):
        full.model.layers[place].register_forward_hook(lambda _module, given, _said: given[0])
    with torch.no_grad():
        torch.testing.assert_close(small(ids).logits, full(ids, use_cache=False).logits)
        said = small.generate(ids, max_new_tokens=8, do_sample=False)
        again = small.generate(ids, max_new_tokens=8, do_sample=False, use_cache=False)
    assert said.tolist() == again.tolist()


@pytest.mark.parametrize("keep", [(), (0, 9), (1, 0), (0, 0, 1), (-1, 0)])
def test_layers_that_are_not_there_are_refused(tmp_path: Path, keep: tuple[int, ...]) -> None:
    whole = build_deep_model(tmp_path / "whole", 3)
    with pytest.raises(ModelError, match="Give numbers from 0 to 2"):
        cut_layers(whole, keep, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
