"""What the plumbing operators tell the core about themselves. Imports nothing heavy."""

LAZYFLOW_API = (1, 0)
