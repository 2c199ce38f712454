"""The small real training that `ckptrun demo` runs."""
