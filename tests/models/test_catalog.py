"""The catalog."""

import re

import pytest

from vivace.config.settings import ModelsSettings
from vivace.errors import ModelError
from vivace.models import catalog


def test_the_default_base_is_in_the_catalog_and_needs_no_hub() -> None:
    entry = catalog.find(ModelsSettings().base)
    assert entry.package is not None
    assert entry == catalog.entries()[0]


def test_every_entry_has_a_licence_and_a_hub_name() -> None:
    for entry in catalog.entries():
        assert entry.license
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.hub_name)
        assert entry.name == entry.name.lower()


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"'smolm2-135m'.*smollm2-135m-instruct"):
        catalog.find("smolm2-135m")
