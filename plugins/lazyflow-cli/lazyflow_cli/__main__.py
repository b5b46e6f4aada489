"""The process of the command: ``lazyflow``, and ``python -m lazyflow_cli``, which is the same.

It can be asked to stop from its first line on, so nothing else is imported here.
"""

import sys

from lazyflow_cli._signals import EXIT_CODES, Stopped, end_now, stoppable

__all__ = ["main"]


def main() -> None:
    """Run the command and leave the process with its exit code."""
    try:
        with stoppable():
            from lazyflow_cli.main import main

            main()
    except Stopped as stop:  # while the command was imported, or at its very end
        print(f"lazyflow: stopped by {stop}.", file=sys.stderr)
        end_now(stop.exit_code)
    except SystemExit as end:
        if not isinstance(end.code, int) or end.code not in EXIT_CODES:
            raise
        end_now(end.code)


if __name__ == "__main__":
    main()
