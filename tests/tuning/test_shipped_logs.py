"""The records that ship still fit their strategies, and their kernels are right."""

import subprocess
import sys

from places import ROOT


def test_a_sample_replays() -> None:
    command = [sys.executable, ROOT / "scripts" / "replay_logs.py", "--sample", "3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    targets = [folder.name for folder in (ROOT / "tuning_logs").iterdir() if (folder / "index.json").exists()]
    assert targets and all(target in result.stdout for target in targets)
