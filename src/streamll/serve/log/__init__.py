"""The log of runs as a server reads it: one tail, buffers of runs in use, positions and frames."""
