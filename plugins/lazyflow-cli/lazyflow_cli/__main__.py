"""``python -m lazyflow_cli``, the same as ``lazyflow``."""

from lazyflow_cli.main import main

main()
