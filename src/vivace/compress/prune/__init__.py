"""Remove what the domain does not need: layers, heads, channels, single weights, judged by the domain's own data."""
