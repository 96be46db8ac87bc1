"""Every template family in every form reads the same tokens as the trainer; `benchmarks/parity.py` asks far more."""

from pathlib import Path

import pytest

from tests.parity.exports import FORMS, make_form
from tests.parity.families import FAMILIES, build_family
from tests.parity.material import SETTINGS, broken, hop_of, proof_of, tokens

CONVERSATIONS = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_form_of_every_family_reads_what_the_trainer_read(place: Path, name: str, form: str) -> None:
    base = place / name / "base"
    if not base.is_dir():
        build_family(name, base)
    model = make_form(form, base, place / name)
    settings = SETTINGS.model_copy(update={"awkward": CONVERSATIONS, "second_reader": True})
    proof = proof_of(base, "", settings)
    assert proof.conversations >= CONVERSATIONS
    findings = tokens(proof, hop_of(model))
    assert broken(findings) == {}
    asked = {each.check: each.of for each in findings if each.check.startswith("token ids")}
    assert asked["token ids"] == CONVERSATIONS
    assert asked["token ids, cut to fit"] > 0
    if form in ("merged", "GGUF"):
        assert len(asked) == 3  # another program's reader as well
