"""From conversations to batches: tokens and masks, their order, and rows packed together."""
