"""Operators that are useful on their own: products of spikes, and the delivery of events."""
