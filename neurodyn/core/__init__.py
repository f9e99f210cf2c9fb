"""What a model is: declared fields, states, the step of a `Dynamics`, and the currents that models exchange."""
