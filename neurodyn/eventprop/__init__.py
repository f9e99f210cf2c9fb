"""Spike times in continuous time and their exact gradients."""
