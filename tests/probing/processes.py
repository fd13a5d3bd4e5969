"""What only a process of its own can show of extraction: `python -m tests.probing.processes FOLDER`.

Kills runs at random moments and takes them up again, then extracts a small and a large corpus for the peaks of memory.
Prints the number of kills, the two peaks and the size of the large one's rows, in bytes.

It forks, so nothing that a fork shares may have run any tensor yet.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from neuronatlas.models import load
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.extraction import extract
from neuronatlas.specimen import specimen_folder

KILLS = 3
WORDS = ("Paris", "is", "a", "city", "in", "France", "and", "the", "river")
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


def extracted(folder: Path, n_sentences: int, shard_rows: int) -> int:
    """Extract short sentences, and give the size of their rows."""
    lengths = [1 + index * 7 % len(WORDS) for index in range(n_sentences)]
    sentences = [Sentence.of(WORDS[:n], WORDS[:n], f"test, line {i}") for i, n in enumerate(lengths, start=1)]
    corpus = Corpus(tuple(sentences), "word")
    acts = extract(load(specimen_folder()), corpus, "ffn", folder, shard_rows=shard_rows, progress=False)
    return 4 * acts.shape[0] * acts.shape[1]


def forked(work: Callable[[], object]) -> int:
    """Begin work in a process of its own, and give its number."""
    process = os.fork()
    if process == 0:
        torch.set_num_threads(1)
        work()
        os._exit(0)
    return process


def kill_some(folder: Path) -> int:
    """Leave one run alone, then kill others until there are enough kills, each taken up by the next."""
    began = time.monotonic()
    assert os.waitpid(forked(lambda: extracted(folder / "undisturbed", 60, 15)), 0)[1] == 0
    whole, moments = time.monotonic() - began, random.Random(7)
    run, kills = 0, 0
    while True:
        process = forked(lambda: extracted(folder / f"killed-{run}", 60, 15))  # noqa: B023 - it runs at once
        if kills < KILLS:
            time.sleep(moments.uniform(whole / 3, whole))
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        if status == 0:
            run += 1
            if kills == KILLS:
                return kills
        else:
            assert os.WTERMSIG(status) == signal.SIGKILL
            kills += 1


def peaks(folder: Path) -> list[int]:
    """The peak once a small corpus is extracted, that once one 16 times as large is, and the size of its rows."""
    found = []
    for n_sentences in (50, 800):
        rows = extracted(folder / f"{n_sentences}", n_sentences, 200)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT)
    return [*found, rows]


def main(folder: Path) -> None:
    """Killing first, since it forks."""
    kills = kill_some(folder)
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps([kills, *peaks(folder)]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
