"""Kills runs of the main job at random moments: `python -m tests.studies.killing FOLDER`. Prints how many were killed.

A process of its own, so that it can fork: what a fork shares must not have run any tensor or table yet.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import neuronatlas as na
from tests.knowledge.planted import planted_model
from tests.studies.conftest import two_relations

KILLS = 10


def start(folder: Path) -> int:
    """Begin or take up a run in a process of its own, and give its number."""
    process = os.fork()
    if process == 0:
        torch.set_num_threads(1)
        settings = na.LocateSettings(facts_per_part=1)
        na.build_atlas(planted_model(), two_relations(), folder, settings, progress=False)
        os._exit(0)
    return process


def kill_often(folder: Path, start: Callable[[Path], int], most: int) -> None:
    """Leave one run alone, then kill others until there are so many kills, each taken up by the next."""
    began = time.monotonic()
    assert os.waitpid(start(folder / "undisturbed"), 0)[1] == 0
    whole, moments = time.monotonic() - began, random.Random(5)
    run, kills = 0, 0
    while True:
        process = start(folder / f"killed-{run}")
        if kills < most:
            time.sleep(moments.uniform(0, whole))
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        if status == 0:
            run += 1
            if kills == most:
                break
        else:
            assert os.WTERMSIG(status) == signal.SIGKILL
            kills += 1
    sys.stdout.write(f"{kills} kills, {run} runs\n")


if __name__ == "__main__":
    kill_often(Path(sys.argv[1]), start, KILLS)
