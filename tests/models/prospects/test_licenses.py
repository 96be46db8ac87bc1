"""Commercial use, as far as a licence's name tells."""

import pytest

from vivace.models.prospects.licenses import about_use, commercial_use


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("Apache-2.0", "yes"),
        ("mit", "yes"),
        ("GPL-3.0-or-later", "yes"),
        ("llama3.2", "conditions"),
        ("gemma", "conditions"),
        ("cc-by-nc-4.0", "no"),
        ("CC-BY-NC-SA-4.0", "no"),
        ("other", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_licence_tells_its_commercial_use(name: str, use: str) -> None:
    assert commercial_use(name) == use


def test_what_is_not_known_is_to_be_read() -> None:
    assert about_use(commercial_use("")) == "unknown: read it"
