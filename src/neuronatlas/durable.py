"""Files that are there whole or not at all, and the hold on a folder while one process writes to it."""

import errno
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["FolderLock", "is_disk_full", "publish", "remove", "write"]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}  # some network disks: to work unguarded beats not to work
_LOCKED_BYTE = 1 << 20  # far behind the process number, so that others can still read it where locks forbid reading


def write(path: Path, data: bytes, scratch: Path) -> None:
    """Write `data` to `path` so that a kill at any moment leaves the old file or the new one, never half of one."""
    scratch.mkdir(parents=True, exist_ok=True)
    temporary = scratch / path.name
    with temporary.open("wb") as file:
        file.write(data)
    publish(temporary, path)


def publish(temporary: Path, target: Path) -> None:
    """Flush a file, or a folder of files, to the disk and give it its final name in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in (*sorted(temporary.iterdir()), temporary) if temporary.is_dir() else (temporary,):
        _flush(path)
    temporary.replace(target)
    _flush(target.parent)


def remove(folder: Path) -> None:
    """Remove a folder and all it holds, or nothing if it is not there."""
    if folder.exists():
        shutil.rmtree(folder)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or the user's share of it, is full.

    >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return any(f"os error {number}" in str(error) for number in _FULL)  # polars keeps the number in its text only


def _flush(path: Path) -> None:
    if path.is_dir() and sys.platform == "win32":
        return  # Windows cannot open folders; its rename is durable by itself
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """An exclusive hold on a lock file, which the system itself drops when the process that has it dies.

    Raises BlockingIOError if another live holder has it; `holder(path)` tells who.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _lock(self._descriptor)
                if self._is_current():
                    break
            except BaseException:
                os.close(self._descriptor)
                raise
            os.close(self._descriptor)  # its last holder removed the file while we waited at its door
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    @staticmethod
    def holder(path: Path) -> str:
        """The number of the process that wrote the lock file, or `unknown`."""
        with suppress(OSError):
            return path.read_text(encoding="ascii").strip() or "unknown"
        return "unknown"

    def release(self) -> None:
        """Let go of the folder. A second call does nothing."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def _is_current(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        return False


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from None
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
