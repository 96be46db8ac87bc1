"""From raw conversations and documents to a dataset worth learning from."""

from vivace.data.card.licenses import stated_licenses
from vivace.data.prepare import prepare
from vivace.data.readers import READERS
from vivace.data.reading.files import input_files
from vivace.data.reading.sniffing import Sniff, sniff
from vivace.data.steps import STEPS

__all__ = ["READERS", "STEPS", "Sniff", "input_files", "prepare", "sniff", "stated_licenses"]
