"""Files that want to harm read nothing else, run nothing, and take neither memory nor time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: What is no lie: these are read, or have nothing that would be asked for.
READ = {"own-level.tif"}

#: Most of a process that opens and reads a file, in MiB and seconds of the processor.
MEMORY_MIB, SECONDS = 300, 5


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are told by Linux only")
@pytest.mark.timeout(300)
def test_hostile_files_read_nothing_else_run_nothing_and_stay_small(tmp_path):
    script = Path(__file__).with_name("hostile.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) >= 60
    assert not (tmp_path / "CANARY").exists()
    wrong = {
        name: (outcome, mib, seconds)
        for name, (outcome, mib, seconds) in found.items()
        if outcome not in (("data",) if name in READ else ("FormatError", "StorageError", "NoReaderError"))
        or mib > MEMORY_MIB
        or seconds > SECONDS
    }
    assert wrong == {}
