"""Running a network without training it: `simulate` and `Stream`."""
