"""The generator of the fictional Kellvane support data: catalogue, phrase banks, dirt and writer."""
