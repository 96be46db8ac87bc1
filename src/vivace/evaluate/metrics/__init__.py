"""One file per metric, found by name through `vivace.evaluate.METRICS`."""
