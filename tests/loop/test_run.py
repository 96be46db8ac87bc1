"""What a run says about its own refusals."""

import pytest

from vivace.domain import Reason, Verdict
from vivace.loop.run import measured_in_noise

NOISE = "Noisy: other programs used 69% of the processor during the measurement."


@pytest.mark.parametrize(
    ("requirement", "met", "noise", "told"),
    [
        ("p95 time to the first token at most 2,000 ms", False, NOISE, True),
        ("p95 time to the first token at most 2,000 ms", False, "", False),
        ("p95 time to the first token at most 2,000 ms", True, NOISE, False),
        ("better than the base", False, NOISE, False),
    ],
)
def test_a_refusal_for_speed_on_a_busy_machine_says_how_to_measure_anew(
    requirement: str, met: bool, noise: str, told: bool
) -> None:
    verdict = Verdict("tuned", met, (Reason(requirement, met, "2,155 ms"),))
    said = measured_in_noise([verdict], noise)
    assert said == (f" {NOISE} Measure anew when it is quiet: --set bench.seed=1." if told else "")
