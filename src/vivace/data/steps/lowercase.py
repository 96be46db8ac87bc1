"""Write the customer's turns in lower case; for classical models and search."""

from functools import partial

from vivace.config.data import DataSettings
from vivace.data.customer import transform_customer
from vivace.data.steps import CleanRow, RowStep
from vivace.text.transforms import lowercase


def _open(_settings: DataSettings) -> CleanRow:
    return partial(transform_customer, transform=lowercase, change="turns lower-cased")


STEP = RowStep(_open)
