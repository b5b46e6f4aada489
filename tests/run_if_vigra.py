"""Run pytest where vigra is installed; elsewhere say in one line why it is not run."""

import sys

import pytest

if __name__ == "__main__":
    try:
        import vigra  # noqa: F401
    except Exception as error:
        print(
            f"vigra: skipped, {sys.executable} has no vigra ({type(error).__name__}: {error}); "
            "on Debian: apt-get install python3-vigra"
        )
        sys.exit(0)
    sys.exit(pytest.main(sys.argv[1:]))
