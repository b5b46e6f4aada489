"""The plumbing between other operators: regions, axes, channels, dtypes and point-wise functions.

One module per operator. This one imports nothing, so that asking what the plugin offers costs nothing.
"""
