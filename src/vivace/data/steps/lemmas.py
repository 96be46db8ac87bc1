"""Replace the words of the customer's turns by their dictionary forms; for classical models and search."""

from functools import partial

from vivace.config.data import DataSettings
from vivace.data.customer import transform_customer_by_language, transforms_of
from vivace.data.steps import CleanRow, RowStep
from vivace.text.transforms import lemmatizer


def _open(settings: DataSettings) -> CleanRow:
    transforms = transforms_of(settings.languages, "lemmas", lemmatizer)
    return partial(transform_customer_by_language, transforms=transforms, change="turns lemmatized")


STEP = RowStep(_open)
