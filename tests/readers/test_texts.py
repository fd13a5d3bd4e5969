"""Plain texts as a stream: lines as they stand in the file, faults by name and line."""

import gzip
from pathlib import Path

import pytest

import neuronatlas as na


def test_lines_keep_their_numbers_whether_gzipped_or_not(tmp_path: Path) -> None:
    content = "\ufeffFirst.\r\n\nThird, with \u2028 in it.\n".encode()
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    expected = ["First.", "", "Third, with \u2028 in it."]
    assert list(na.read_texts(plain)) == list(na.read_texts(packed)) == expected


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"One.\n" * 100_000 + b"\xff\n")
    lines = na.read_texts(file)
    assert [next(lines) for _ in range(3)] == ["One."] * 3


def test_faults_name_the_file_and_the_line(tmp_path: Path) -> None:
    with pytest.raises(na.CorpusError, match="no such file"):
        na.read_texts(tmp_path / "none.txt")
    with pytest.raises(na.CorpusError, match="cannot be read"):
        na.read_texts(tmp_path)
    bad, broken = tmp_path / "bad.txt", tmp_path / "broken.gz"
    bad.write_bytes(b"One.\nTw\xff.\n")
    with pytest.raises(na.CorpusError, match=r"bad.txt, line 2: byte 0xff is not UTF-8 text"):
        list(na.read_texts(bad))
    broken.write_bytes(gzip.compress(b"One.\n" * 50)[:-12])
    with pytest.raises(na.CorpusError, match="the gzip archive is broken"):
        list(na.read_texts(broken))
