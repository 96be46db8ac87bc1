"""Every setting explains itself."""

import pytest
from pydantic import BaseModel

from vivace.config import Settings


@pytest.mark.parametrize("table", list(Settings.model_fields))
def test_every_key_has_its_help(table: str) -> None:
    model = Settings.model_fields[table].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, f"{table}.{name} has no help"
