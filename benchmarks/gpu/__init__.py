"""Everything that hrtrack claims on a GPU, measured by `python -m benchmarks.gpu`."""
