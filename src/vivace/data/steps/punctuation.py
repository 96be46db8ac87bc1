"""Take the punctuation out of the customer's turns; for classical models and search."""

from functools import partial

from vivace.config.data import DataSettings
from vivace.data.customer import transform_customer
from vivace.data.steps import CleanRow, RowStep
from vivace.text.transforms import strip_punctuation


def _open(_settings: DataSettings) -> CleanRow:
    return partial(transform_customer, transform=strip_punctuation, change="turns without punctuation")


STEP = RowStep(_open)
