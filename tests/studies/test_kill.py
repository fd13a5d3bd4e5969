"""A run that is killed at random moments, again and again, ends in the bytes of one that was left alone."""

import subprocess
import sys
from pathlib import Path

import neuronatlas as na

ROOT = Path(__file__).parents[2]


def test_a_run_killed_ten_times_ends_in_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.studies.killing", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("10 kills")
    expected = na.Atlas.open(tmp_path / "undisturbed")
    killed = sorted(tmp_path.glob("killed-*"))
    assert killed
    for folder in killed:
        found = na.Atlas.open(folder)
        assert found.state == "complete"
        assert found.tables == expected.tables
        for table in expected.tables:
            name = f"{table}.parquet"
            assert (folder / name).read_bytes() == (expected.folder / name).read_bytes(), table
