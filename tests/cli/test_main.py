"""The command line is quick to start and tells failures in a sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vivace.cli.main import COMMANDS

ENVIRONMENT = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}


def vivace(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vivace", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        timeout=120,
        check=False,
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['vivace', '--help']\n"
        "from vivace.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'sqlalchemy', 'numpy', 'polars', 'starlette', 'openvino'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY []" in shown
    for name in COMMANDS:
        assert name in shown


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself(command: str) -> None:
    shown = vivace(command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "Usage:" in shown.stdout
    assert COMMANDS[command].split()[0].lower().rstrip("s,.") in shown.stdout.lower()


def test_a_missing_project_is_one_sentence_and_a_way_out(tmp_path: Path) -> None:
    shown = vivace("run", str(tmp_path / "nowhere"))
    assert shown.returncode == 2
    assert "There is no" in shown.stderr
    assert "vivace init" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_wrong_key_stops_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text("[train]\nmax_token = 5\n")
    shown = vivace("run", str(tmp_path))
    assert shown.returncode == 2
    assert "vivace.toml, line 2: unknown key 'max_token' in [train]. Did you mean 'max_tokens'?" in shown.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["vivace.toml"]


def test_a_pattern_that_matches_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text('[data]\nconversations = ["chats.jsonl"]\n')
    (tmp_path / "chat.jsonl").write_text("")
    shown = vivace("data", str(tmp_path))
    assert shown.returncode == 3
    assert "chats.jsonl" in shown.stderr
    assert "chat.jsonl" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_an_unknown_command_names_the_nearest() -> None:
    shown = vivace("evalaute")
    assert shown.returncode == 2
    assert "evaluate" in shown.stderr


def test_the_version_is_told() -> None:
    from vivace import __version__

    assert vivace("--version").stdout.strip() == f"vivace {__version__}"


def test_asking_for_a_release_where_there_is_none_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text("")
    for words in (("serve", str(tmp_path)), ("chat", str(tmp_path)), ("release", "show", "--project", str(tmp_path))):
        shown = vivace(*words)
        assert shown.returncode == 5, shown.stderr
        assert "vivace run" in shown.stderr
        assert "Traceback" not in shown.stderr


def test_interrupting_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text('[data]\nconversations = ["pipe.jsonl"]\n')
    os.mkfifo(tmp_path / "pipe.jsonl")  # whoever reads it waits for us
    process = subprocess.Popen(
        [sys.executable, "-m", "vivace", "data", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        # What runs these tests in the background may have told its children to take no notice.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        writer = wait_for_reader(tmp_path / "pipe.jsonl", process)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
        os.close(writer)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "continues" in err
    assert "Traceback" not in err


def wait_for_reader(pipe: Path, process: subprocess.Popen[str]) -> int:
    """Open a pipe for writing once the process has begun to read it."""
    for _ in range(1200):
        assert process.poll() is None, "it ended before it read the file"
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the file was never read")
