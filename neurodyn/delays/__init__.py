"""Inputs that arrive some steps later."""
