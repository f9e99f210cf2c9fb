"""Operators that are useful on their own, and how their C++ is compiled."""
