import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronatlas import durable
from neuronatlas.atlas import Atlas, AtlasError

MODEL = {"id": "tiny", "revision": None, "digest": "ab12"}
SETTINGS = {"rule": "gauss-legendre", "gains": [0, 2], "threshold": {"coarse": 0.2}}
N_PARTS = 3


class KilledError(BaseException):
    """Stands for a kill: nothing in the package may catch it and go on."""


def begin(folder: Path) -> Atlas:
    return Atlas.create_or_resume(folder, model=MODEL, settings=SETTINGS, command="neuronatlas locate", seed=7)


def part(index: int) -> dict[str, pl.DataFrame]:
    rows = 3 * (index % 3)  # some parts are empty
    facts = pl.DataFrame({"fact": [index] * rows, "answer": ["Köln"] * rows}, schema=["fact", "answer"])
    facts = facts.cast({"fact": pl.Int64, "answer": pl.String})
    return {"facts": facts, "scores": facts.select("fact", score=pl.col("fact") / 3)}


def run(folder: Path) -> None:
    """A whole job that writes everything an atlas can hold and skips what is there already."""
    with begin(folder) as atlas:
        if atlas.state == "complete":
            return
        atlas.remember("batch", lambda: 32)
        for index in range(N_PARTS):
            if not atlas.has_part("locate", index):
                atlas.write_part("locate", index, part(index))
        atlas.write_table("summary", pl.concat(atlas.read_parts("scores")).sum())
        atlas.write_arrays("layers", {"share": np.arange(6, dtype=np.float32).reshape(2, 3)})
        atlas.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is most of the time of these tests and no part of what they show."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, bytes]:
    run(tmp_path / "undisturbed")
    return contents(tmp_path / "undisturbed")


class Countdown:
    """Lets `steps` calls to the disk through and raises at the next one, before or after it took place."""

    def __init__(self, steps: int, error: BaseException, *, after: bool) -> None:
        self.left, self.error, self.after = steps, error, after

    def wrap(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            self.left -= 1
            if self.left == -1 and not self.after:
                raise self.error
            result = call(*arguments, **options)
            if self.left == -1:
                raise self.error
            return result

        return counted


def disturb(monkeypatch: pytest.MonkeyPatch, countdown: Countdown) -> None:
    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "mkdir"), (shutil, "rmtree"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, countdown.wrap(getattr(owner, name)))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_killed_at_any_step_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], after: bool
) -> None:
    kills = 0
    while True:
        folder = tmp_path / f"killed-{kills}"
        with monkeypatch.context() as patch:
            disturb(patch, countdown := Countdown(kills, KilledError(), after=after))
            with suppress(KilledError):
                run(folder)
        if countdown.left >= 0:
            break  # the run needed fewer steps than that: every one of them has been killed
        run(folder)
        assert contents(folder) == undisturbed, f"killed at step {kills}"
        kills += 1
    assert kills > 30


def test_a_run_killed_again_and_again_makes_progress_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    kills = 0
    while True:
        with monkeypatch.context() as patch:
            disturb(patch, countdown := Countdown(5 + 3 * kills, KilledError(), after=False))
            try:
                run(tmp_path / "killed")
            except KilledError:
                kills += 1
        if countdown.left >= 0:
            break
    assert kills > 5
    assert contents(tmp_path / "killed") == undisturbed


def test_a_process_killed_outright_is_taken_up_again_by_the_next(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    script = """
        import pathlib, sys, test_store
        atlas = test_store.begin(pathlib.Path(sys.argv[1]))
        atlas.remember("batch", lambda: 32)
        atlas.write_part("locate", 0, test_store.part(0))
        (atlas.folder / ".tmp" / "locate-1").mkdir()
        print("ready", flush=True)
        sys.stdin.read()
    """
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    pipe, environment = subprocess.PIPE, os.environ | {"PYTHONPATH": paths}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(AtlasError, match=rf"process {process.pid}\) is writing"):
            begin(folder)
        process.send_signal(signal.SIGKILL)
    assert (folder / "atlas.lock").exists()
    run(folder)
    assert contents(folder) == undisturbed


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks the system which file a descriptor is")
def test_a_part_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    replace = Path.replace

    def flush(descriptor: int) -> None:
        calls.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def rename(self: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    with begin(tmp_path / "atlas") as atlas:
        calls.clear()
        atlas.write_part("locate", 0, part(1))
    assert calls == ["facts.parquet", "scores.parquet", "locate-0", "rename", "locate"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_what_was_done_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], code: int
) -> None:
    atlas = begin(tmp_path / "full")
    atlas.remember("batch", lambda: 32)
    atlas.write_part("locate", 0, part(0))
    writes: tuple[Callable[[], None], ...] = (
        lambda: atlas.write_part("locate", 1, part(1)),
        lambda: atlas.write_table("summary", part(1)["facts"]),
        lambda: atlas.write_arrays("layers", {"share": np.zeros(3)}),
        atlas.finish,
    )
    for write in writes:
        with monkeypatch.context() as patch:
            disturb(patch, Countdown(1, OSError(code, os.strerror(code)), after=False))
            with pytest.raises(AtlasError, match=r"full: no room for .*1 parts .* kept; .* same command") as caught:
                write()
        assert "\n" not in str(caught.value)
        assert not (atlas.folder / ".tmp").exists()
    atlas.close()
    run(atlas.folder)
    assert contents(atlas.folder) == undisturbed


def test_a_disk_that_polars_finds_full_is_told_apart_from_other_errors() -> None:
    assert durable.is_disk_full(pl.exceptions.ComputeError("No space left on device (os error 28)"))
    assert not durable.is_disk_full(pl.exceptions.ComputeError("no such column"))
    assert not durable.is_disk_full(PermissionError(errno.EACCES, "Permission denied"))


def test_other_io_errors_pass_through_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with begin(tmp_path / "atlas") as atlas, monkeypatch.context() as patch:
        disturb(patch, Countdown(1, OSError(errno.EIO, "Input/output error"), after=False))
        with pytest.raises(OSError, match="Input/output error"):
            atlas.write_part("locate", 0, part(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": SETTINGS | {"gains": [0, 3]}}, r"settings\.gains was \[0, 2\], now \[0, 3\]"),
        ({"settings": {"threshold": {"coarse": 0.2}}}, r"settings\.rule was gauss-legendre, now not set"),
        ({"settings": SETTINGS | {"threshold": {"coarse": 0.3}}}, r"settings\.threshold\.coarse was 0\.2, now 0\.3"),
        ({"model": MODEL | {"digest": "cd34"}}, r"model\.digest was ab12, now cd34"),
        ({"seed": 8}, "seed was 7, now 8"),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_an_atlas_of_other_settings_is_refused_with_what_differs(
    tmp_path: Path, change: dict[str, object], message: str, complete: bool
) -> None:
    with begin(tmp_path / "atlas") as atlas:
        if complete:
            atlas.finish()
    before = contents(tmp_path / "atlas")
    same: dict[str, object] = {"model": MODEL, "settings": SETTINGS, "seed": 7}
    with pytest.raises(AtlasError, match=message) as caught:
        Atlas.create_or_resume(tmp_path / "atlas", **(same | change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "atlas") == before


def test_the_command_and_the_models_name_may_differ(tmp_path: Path) -> None:
    begin(tmp_path / "atlas").close()
    renamed = MODEL | {"id": "./tiny"}
    with Atlas.create_or_resume(tmp_path / "atlas", model=renamed, settings=SETTINGS, command="again", seed=7) as atlas:
        assert atlas.meta["command"] == "neuronatlas locate"
        assert atlas.meta["model"]["id"] == "tiny"


def edit_meta(folder: Path, **changes: object) -> None:
    file = folder / "atlas.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_other_versions_are_refused_while_unfinished_and_welcome_afterwards(tmp_path: Path) -> None:
    begin(tmp_path / "atlas").close()
    versions = Atlas.open(tmp_path / "atlas").meta["versions"]
    edit_meta(tmp_path / "atlas", versions=versions | {"torch": "1.0"})
    with pytest.raises(AtlasError, match=r"versions\.torch was 1\.0, now "):
        begin(tmp_path / "atlas")
    edit_meta(tmp_path / "atlas", state="complete")
    with begin(tmp_path / "atlas") as atlas:
        assert atlas.state == "complete"


def test_another_schema_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "atlas").close()
    edit_meta(tmp_path / "atlas", schema=99)
    for use in (Atlas.open, begin):
        with pytest.raises(AtlasError, match="has atlas schema 99, this version reads 1"):
            use(tmp_path / "atlas")


def test_what_is_not_an_atlas_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(AtlasError, match=r"neither empty nor an atlas \(it holds 'thesis.tex'\)"):
        begin(tmp_path)
    with pytest.raises(AtlasError, match="is a file"):
        begin(tmp_path / "thesis.tex")
    with pytest.raises(AtlasError, match=r"is not an atlas: it has no atlas\.json"):
        Atlas.open(tmp_path)
    with pytest.raises(AtlasError, match="does not exist"):
        Atlas.open(tmp_path / "nowhere")
    (tmp_path / "atlas.json").write_text("[]")
    with pytest.raises(AtlasError, match="not the description of an atlas"):
        Atlas.open(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atlas.json", "thesis.tex"]


def test_two_runs_in_one_folder_do_not_clash(tmp_path: Path) -> None:
    with begin(tmp_path / "atlas"), pytest.raises(AtlasError, match=rf"another run \(process {os.getpid()}\)"):
        begin(tmp_path / "atlas")
    begin(tmp_path / "atlas").close()


def test_a_disk_that_knows_no_locks_can_still_hold_an_atlas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    run(tmp_path / "atlas")
    assert contents(tmp_path / "atlas") == undisturbed


def test_a_reader_needs_no_lock_and_sees_finished_parts_of_a_running_atlas(tmp_path: Path) -> None:
    with begin(tmp_path / "atlas") as writer:
        writer.write_part("locate", 1, part(1))
        reader = Atlas.open(tmp_path / "atlas")
        assert reader.state == "running"
        assert reader.tables == ["facts", "scores"]
        assert reader.table("facts").equals(part(1)["facts"])
        writer.write_part("locate", 2, part(2))
        assert reader.table("facts").height == part(1)["facts"].height + part(2)["facts"].height
        with pytest.raises(AtlasError, match="open for reading only"):
            reader.write_table("facts", part(1)["facts"])


def test_a_complete_atlas_reads_back_and_takes_no_more(tmp_path: Path) -> None:
    run(tmp_path / "atlas")
    atlas = Atlas.open(tmp_path / "atlas")
    assert atlas.state == "complete"
    assert atlas.tables == ["facts", "scores", "summary"]
    assert atlas.table("facts").equals(pl.concat(part(index)["facts"] for index in range(N_PARTS)))
    assert [frame.height for frame in atlas.read_parts("facts")] == [atlas.table("facts").height]
    np.testing.assert_array_equal(atlas.arrays("layers")["share"], np.arange(6).reshape(2, 3))
    assert atlas.has_part("locate", 12345)
    with pytest.raises(AtlasError, match=r"no table 'rankings' in .*; it has facts, scores, summary"):
        atlas.table("rankings")
    with pytest.raises(AtlasError, match=r"no arrays 'scores' in .*; it has layers"):
        atlas.arrays("scores")
    with begin(tmp_path / "atlas") as again, pytest.raises(AtlasError, match="is complete and takes no more"):
        again.write_part("locate", 9, part(1))


def test_nothing_but_the_results_is_left_and_none_of_it_is_pickled(undisturbed: dict[str, bytes]) -> None:
    names = ["atlas.json", "facts.parquet", "layers.safetensors", "scores.parquet", "summary.parquet"]
    assert list(undisturbed) == names
    assert all(data[:4] == b"PAR1" for name, data in undisturbed.items() if name.endswith(".parquet"))


def test_a_choice_is_made_once_and_remembered(tmp_path: Path) -> None:
    def find() -> Iterator[int]:
        yield from (32, 8)

    choices = find()
    for _ in range(2):
        with begin(tmp_path / "atlas") as atlas:
            assert atlas.remember("batch", lambda: next(choices)) == 32


def test_misuse_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with begin(tmp_path / "atlas") as atlas:
        atlas.write_part("locate", 0, part(1))
        atlas.write_table("summary", part(1)["facts"])
        before = contents(tmp_path / "atlas")
        with pytest.raises(AtlasError, match=r"part 0 of stage 'locate' is in .* already"):
            atlas.write_part("locate", 0, part(1))
        with pytest.raises(AtlasError, match="table 'facts' is written in parts"):
            atlas.write_table("facts", part(1)["facts"])
        with pytest.raises(AtlasError, match=r"table 'summary' is in .* as a whole"):
            atlas.write_part("locate", 1, {"summary": part(1)["facts"]})
        with pytest.raises(AtlasError, match=r"a part of table 'facts' has columns .* expected"):
            atlas.write_part("locate", 1, {"facts": part(1)["scores"]})
        for name in ("../escape", "Facts", "", "a/b", ".tmp"):
            with pytest.raises(AtlasError, match="cannot name a table"):
                atlas.write_table(name, part(1)["facts"])
        assert contents(tmp_path / "atlas") == before
    with pytest.raises(AtlasError, match="needs the digest"):
        Atlas.create_or_resume(tmp_path / "other", model={"id": "tiny"}, settings={})


def test_a_folder_whose_name_looks_like_a_pattern_is_taken_literally(tmp_path: Path) -> None:
    run(tmp_path / "a=1" / "[b]*")
    assert Atlas.open(tmp_path / "a=1" / "[b]*").table("facts").columns == ["fact", "answer"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(N_PARTS)), stops=st.sets(st.integers(0, N_PARTS)))
def test_the_order_in_which_parts_are_written_and_interrupted_leaves_no_trace(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], stops: set[int]
) -> None:
    folder, straight = (tmp_path_factory.mktemp("orders") / name for name in ("a", "b"))
    atlas = begin(folder)
    for step, index in enumerate(order):
        if step in stops:
            atlas.close()
            atlas = begin(folder)
        atlas.write_part("locate", index, part(index))
        assert [frame.height for frame in atlas.read_parts("facts")] == [
            part(done)["facts"].height for done in sorted(order[: step + 1])
        ]
    atlas.finish()
    with begin(straight) as other:
        for index in range(N_PARTS):
            other.write_part("locate", index, part(index))
        other.finish()
    assert contents(folder) == contents(straight)
