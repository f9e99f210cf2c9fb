"""Small helpers without neuroscience: optional dependencies, random generators, progress, warnings."""
