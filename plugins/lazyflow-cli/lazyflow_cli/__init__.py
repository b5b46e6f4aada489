"""The ``lazyflow`` command: everything a user types.

The core knows nothing of it. Its modules import click at the top and everything heavier inside their
functions, so that ``lazyflow --help`` answers at once.
"""

__version__ = "0.1.0"
