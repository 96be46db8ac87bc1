"""Replace the words of the customer's turns by their stems; for classical models and search."""

from functools import partial

from vivace.config.data import DataSettings
from vivace.data.customer import transform_customer_by_language, transforms_of
from vivace.data.steps import CleanRow, RowStep
from vivace.text.transforms import stemmer


def _open(settings: DataSettings) -> CleanRow:
    transforms = transforms_of(settings.languages, "stems", stemmer)
    return partial(transform_customer_by_language, transforms=transforms, change="turns stemmed")


STEP = RowStep(_open)
