"""Is a step a pure function of its tensors, and has anything that it reads changed since?"""
