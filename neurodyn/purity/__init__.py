"""Is a step a pure function of its tensors, and has anything that it reads changed since?

A trace runs a step once, on tensors without values, and what it does is done again at every step without Python. That
is right only if Python would do the same each time. Three questions, a file each:

- watching.py, while the step is traced: does it change anything, or call or read what cannot be looked into, or ask
  what a trace answers in another way (the class of a parameter, the grad mode)? Then it is not compiled.
- snapshot.py, at every call: is everything that the trace has read as it was? Else it is traced again. kinds.py says
  how it looks into modules, containers, classes and functions, and leaves.py where it need not look. same.py asks C++
  first, whether most of it are the very same objects.
- fingerprint.py, for a new module: does another one have the same code and attributes? Then it shares the program.

Two more serve the loop: unchanged.py tells `checkpoint=` whether steps can be computed again, and overwritten.py puts
back what a step that is only tried has written to.

What they cannot see is left to the proof (engine/proof.py): the first results are compared with the plain step.
"""
