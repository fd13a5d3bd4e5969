"""Kills studies of salient neurons at random moments: `python -m tests.studies.salience.killing FOLDER`.

A process of its own, so that it can fork: what a fork shares must not have run any tensor or table yet.
"""

import os
import sys
from pathlib import Path

import torch

from neuronatlas.studies.salience.building import build_salience_atlas
from tests.probing.planted_property import planted_model
from tests.studies.killing import kill_often
from tests.studies.salience.labelled_text import FAST, two_properties

KILLS = 6


def start(folder: Path) -> int:
    """Begin or take up a run in a process of its own, and give its number."""
    process = os.fork()
    if process == 0:
        torch.set_num_threads(1)
        build_salience_atlas(planted_model(blur=0.1), two_properties(), folder, FAST, progress=False)
        os._exit(0)
    return process


if __name__ == "__main__":
    kill_often(Path(sys.argv[1]), start, KILLS)
