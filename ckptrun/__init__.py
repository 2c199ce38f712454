"""ckptrun: one word in front of a training command, and it runs longer than the time limit."""

__version__ = "0.1.0"
