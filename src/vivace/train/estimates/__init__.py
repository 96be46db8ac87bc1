"""What a training run will take, told before it starts, and how it gets on."""
