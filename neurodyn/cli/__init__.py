"""The commands of the command line that have no folder of their own."""
