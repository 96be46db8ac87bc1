"""What a dataset is made of, how diverse it is, and how the training split is made even or smaller."""
