"""Networks from the literature, to run by name."""
