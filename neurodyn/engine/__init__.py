"""Compiled programs: one step of a module traced, chunks of it compiled, and run along a sequence; see README.md."""
