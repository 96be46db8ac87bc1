"""Models are looked at before anything is loaded, and measured so that an interruption loses nothing."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.loop.test_recommending import model
from tests.train.material import Watcher
from vivace.cli.models_views import print_choice
from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Candidate, Example, Message, SilentProgress
from vivace.loop.choosing import Choice, Entrant, compare_models, told
from vivace.loop.measuring import ROUNDS, asked, measure
from vivace.loop.recommending import judge
from vivace.models import identify
from vivace.models.prospects.prospect import prospect
from vivace.store.files import read_journal


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A good model, one that is much too large, one without template, an encoder, and a name that leads nowhere."""
    folder = tmp_path_factory.mktemp("models")
    made = {"tiny": str(tiny_model), "missing": "smollm2-135m-instuct"}
    for name in ("huge", "plain", "encoder"):
        shutil.copytree(tiny_model, folder / name)
        made[name] = str(folder / name)
    rewrite(folder / "huge", num_hidden_layers=4_000_000, hidden_size=512, intermediate_size=4096)
    (folder / "plain" / "chat_template.jinja").unlink()
    rewrite(folder / "encoder", architectures=["BertModel"])
    return made


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def test_without_a_project_what_can_be_told_is_told(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vivace.cli.models_views.out.width", 80)
    found = compare_models(tmp_path, list(models.values()), SilentProgress())
    by_name = dict(zip(models, found.entrants, strict=True))
    assert "Nothing was measured: There is no vivace.toml" in found.note
    assert by_name["tiny"].left_out == ""
    assert "GB of memory to be served" in by_name["huge"].left_out
    assert "no chat template" in by_name["plain"].left_out
    assert by_name["encoder"].left_out == "It is a BertModel, which does not write text."
    assert "Did you mean 'smollm2-135m-instruct'?" in by_name["missing"].left_out
    print_choice(found)
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if "─" in line or "Llama" in line) <= 80
    assert "106,816" not in shown
    assert "0.1 M" in shown
    plain = told(found)
    assert plain["entrants"][0]["known"]["commercial_use"] == "unknown"
    assert "config" not in plain["entrants"][0]["known"]
    assert not list(tmp_path.iterdir())


def test_the_figures_fit_a_terminal_of_eighty_columns(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vivace.cli.models_views.out.width", 80)
    names = ["a-model-with-a-rather-long-name-1.7b-instruct", "quick"]
    measured = (model(names[0], 0.8, 40), model(names[1], 1.0, 10))
    known = prospect(str(tiny_model))
    entrants = tuple(Entrant(replace(known, label=name), tokens_per_word=1.4) for name in names)
    print_choice(Choice(entrants, measured, judge(measured, "quality", EvaluateSettings(resamples=200))))
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "…rather-long-name-1.7b-i" not in shown
    assert "1.7b-instruct" in shown
    assert "Recommended: a-model-with-a-rather-long-name-1.7b-instruct" in shown.replace("\n", " ")


def test_a_project_without_conversations_says_so(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text('[project]\nname = "shop"\n')
    found = compare_models(tmp_path, [models["tiny"]], SilentProgress())
    assert found.note.startswith("Nothing was measured: ")
    assert found.verdict is None


def test_two_models_of_one_name_are_told_apart(models: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(models["tiny"], tmp_path / "other" / Path(models["tiny"]).name)
    names = [models["tiny"], str(tmp_path / "other" / Path(models["tiny"]).name), models["tiny"]]
    found = compare_models(tmp_path, names, SilentProgress())
    assert len({each.known.label for each in found.entrants}) == len(found.entrants) == 2


def examples(count: int) -> list[Example]:
    return [
        Example(f"e{n}", (Message("user", f"What is {n}?"), Message("assistant", f"It is {n}, naturally.")))
        for n in range(count)
    ]


def candidates(tiny_model: Path, names: Sequence[str]) -> list[Candidate]:
    """Models on an engine that opens at once."""
    return [Candidate(name, "echo", identify(tiny_model), {"system": "Be kind."}) for name in names]


def test_the_system_prompt_goes_first_as_in_serving(tiny_model: Path) -> None:
    (item,) = candidates(tiny_model, ["a"])
    own = Example("x", (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Ho")))
    assert [message.content for message in asked(item, examples(1)[0])] == ["Be kind.", "What is 0?"]
    assert [message.content for message in asked(item, own)] == ["Be brief.", "Hi"]


@pytest.mark.parametrize("together", [True, False])
def test_every_model_answers_the_same_prompts_in_rounds_that_turn(
    tiny_model: Path, tmp_path: Path, together: bool
) -> None:
    items = candidates(tiny_model, ["a", "b"])
    found = asyncio.run(measure(items, examples(6), tmp_path, SilentProgress(), together=together))
    rounds = [json.loads(line) for line in read_journal(tmp_path / "rounds.jsonl")]
    assert [(each["model"], each["number"]) for each in rounds] == [
        ("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2),
    ]  # fmt: skip
    one, other = found
    assert [each.request_id for each in one.samples] == [each.request_id for each in other.samples]
    assert len({each.request_id.split("/")[2] for each in one.samples}) == 6
    assert all(each.completion_tokens == 24 for each in one.samples)
    assert one.peak_memory_bytes > 10**6
    # The echo engine calls every token equally likely: log2 of the vocabulary a token.
    first = one.likely[0]
    assert first.bits == pytest.approx(9 * first.tokens, rel=0.01)
    assert first.bytes == len(b"It is 0, naturally.")


def test_what_was_measured_before_an_interruption_is_not_measured_again(tiny_model: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    class Stopping(Watcher):
        def task(self, label: str, total: float | None = None) -> Any:
            if label.startswith("Measuring how likely"):
                raise Stopped
            return super().task(label, total)

    items = candidates(tiny_model, ["a", "b"])
    with pytest.raises(Stopped):
        asyncio.run(measure(items, examples(6), tmp_path, Stopping()))
    before = (tmp_path / "rounds.jsonl").read_bytes()
    assert len(before.splitlines()) == 2 * ROUNDS
    watcher = Watcher()
    found = asyncio.run(measure(items, examples(6), tmp_path, watcher))
    assert (tmp_path / "rounds.jsonl").read_bytes() == before
    assert watcher.totals["Measuring speed"] == 0
    again = Watcher()
    assert asyncio.run(measure(items, examples(6), tmp_path, again)) == found
    assert again.advanced["Measuring how likely the references are"] == 12
    assert len(read_journal(tmp_path / "likelihoods.jsonl")) == 12


def test_an_engine_that_dies_leaves_the_others_measured(tiny_model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(tiny_model, bad)
    (bad / "echo.json").write_text(json.dumps({"crash_on": "What is 3?"}))
    items = [*candidates(tiny_model, ["good"]), Candidate("bad", "echo", identify(bad))]
    good, broken = asyncio.run(measure(items, examples(6), tmp_path, SilentProgress()))
    assert good.error == ""
    assert len(good.samples) == ROUNDS * 4
    assert "crash" in broken.error or "ended" in broken.error
