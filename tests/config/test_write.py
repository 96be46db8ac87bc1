"""The vivace.toml that init writes is valid and says what was chosen."""

from pathlib import Path

from vivace.config import Settings, commented_toml, load


def test_what_was_chosen_is_read_back_and_the_rest_is_the_default(tmp_path: Path) -> None:
    chosen = {
        "project": {"name": "shop", "system": 'Say "hi"\nand más'},
        "data": {"conversations": ["a b.jsonl"], "seed": 3},
    }
    path = tmp_path / "vivace.toml"
    path.write_text(commented_toml(chosen))
    settings = load(path)
    assert settings.project.name == "shop"
    assert settings.project.system == 'Say "hi"\nand más'
    assert settings.data.conversations == ["a b.jsonl"]
    assert settings.data.seed == 3
    assert settings.train == Settings().train


def test_every_commented_default_is_valid_when_uncommented(tmp_path: Path) -> None:
    text = commented_toml({})
    lines = [
        line.removeprefix("# ") if " = " in line and line.startswith("# ") and line.split()[1].isidentifier() else line
        for line in text.splitlines()
    ]
    path = tmp_path / "vivace.toml"
    path.write_text("\n".join(line for line in lines if not line.startswith("#")))
    assert load(path) == Settings()
