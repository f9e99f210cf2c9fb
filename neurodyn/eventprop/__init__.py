"""Spike times in continuous time and their exact gradients."""

from . import on_a_grid  # noqa: F401, which unroll finds
