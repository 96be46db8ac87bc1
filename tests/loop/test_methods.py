"""What cannot end in a release is refused before any work is done."""

from pathlib import Path

import pytest

from vivace.domain import SilentProgress
from vivace.errors import ConfigError
from vivace.loop.project import open_project
from vivace.loop.run import run


@pytest.mark.parametrize("until", ["compress", "release"])
def test_learned_tokens_cannot_be_exported_and_the_loop_says_so_at_once(tmp_path: Path, until: str) -> None:
    (tmp_path / "vivace.toml").write_text('[train]\nmethod = "prompt_tuning"\n')
    with (
        open_project(tmp_path, SilentProgress()) as project,
        pytest.raises(ConfigError, match="makes no model that can be exported"),
    ):
        run(project, until)
