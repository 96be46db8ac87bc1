"""The doctor says what is there and how to get what is not."""

from pathlib import Path

import pytest

from vivace.loop import doctor


def test_every_finding_has_words_and_what_is_wrong_has_a_way_out(tmp_path: Path) -> None:
    findings = doctor.examine(tmp_path)
    assert {"Python", "Processor", "Memory", "Disk", "Serving"} <= {finding.what for finding in findings}
    assert all(finding.detail for finding in findings)
    assert all(finding.hint for finding in findings if finding.state != "ok")


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LOOP_PACKAGES", ("torch", "no_such_package"))
    (missing,) = [finding for finding in doctor.examine(tmp_path) if "no_such_package" in finding.detail]
    assert missing.state == "warn"
    assert "vivace[loop]" in missing.hint


def test_a_broken_config_is_found(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text("[train]\nmax_token = 1\n")
    (found,) = [finding for finding in doctor.examine(tmp_path) if finding.state == "bad"]
    assert "max_tokens" in found.detail


def test_the_machines_speed_is_told_with_its_units(tmp_path: Path) -> None:
    found = next(finding for finding in doctor.examine(tmp_path) if finding.what == "Speed")
    assert "GB/s" in found.detail
    assert "GFLOP/s" in found.detail


def test_vector_units_are_told_as_people_call_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_cpu_flags", lambda: {"avx2", "avx512_vnni", "amx_int8"})
    assert "AVX2, AVX-512 VNNI, AMX INT8" in doctor._cores().detail
