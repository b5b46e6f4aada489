from __future__ import annotations

import sys
from pathlib import Path

# pytest's importlib mode does not put the folder of the tests on the path; forests.py is there, and others.
sys.path.insert(0, str(Path(__file__).parent))
