"""Correct the spelling of the customer's turns; for classical models and search."""

from functools import partial

from vivace.config.data import DataSettings
from vivace.data.customer import transform_customer
from vivace.data.steps import CleanRow, RowStep
from vivace.text.transforms import spelling_corrector


def _open(_settings: DataSettings) -> CleanRow:
    return partial(transform_customer, transform=spelling_corrector(), change="turns with corrected spelling")


STEP = RowStep(_open)
