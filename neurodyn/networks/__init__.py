"""Parts that join layers into networks, and what a training loop asks of a network."""
