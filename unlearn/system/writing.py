"""Files that appear whole or not at all, and that are still there when the power goes.

All that announces a result goes through :func:`whole`: it is written beside its place, brought to the disk,
and only then given its name.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from unlearn.errors import ConfigError, WriteError

FULL = (errno.ENOSPC, errno.EDQUOT)

#: What a place can have against a file, as opposed to a mistake of ours.
PLACE = (
    *FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.EFBIG, errno.EIO, errno.ENOLCK,
)  # fmt: skip


@contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Gives the name of an empty file beside ``path`` that is to be filled, and takes its place at the end.

    If the block raises, ``path`` is as it was before, and nothing is left beside it.

    Arguments:
        path: What is to appear; its folder is made if need be. What is there already is replaced.
        durable: Whether to wait until the disk has it. Not needed for what is settled later, see
            :func:`settle`, or is drawn again without loss.

    Raises:
        WriteError: If it cannot be written; the cause is said in a line.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with saying(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        try:
            temporary.write_bytes(b"")
            yield temporary
            if durable:
                _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if durable:
            _sync(path.parent)


def write(path: Path, text: str) -> Path:
    """Writes a text file in UTF-8, whole or not at all.

    Raises:
        WriteError: If it cannot be written.
    """
    write_all({path: text})
    return path


def write_all(texts: Mapping[Path, str]) -> None:
    """Writes several text files: none takes its place before all are on the disk.

    Raises:
        WriteError: If one of them cannot be written.
    """
    with ExitStack() as stack:
        for path, text in texts.items():
            temporary = stack.enter_context(whole(path))
            with saying(path):
                temporary.write_text(text, encoding="utf-8")
                _sync(temporary)


def file_name(text: str) -> str:
    """``text`` as part of the name of a file, which must not lead into another folder."""
    return text.replace("/", "_").replace(os.sep, "_").replace("\0", "_")


def settle(folder: Path) -> None:
    """Waits until the disk has all that lies below ``folder``."""
    paths = [folder, *folder.rglob("*")]
    with ThreadPoolExecutor(16) as pool:  # a file system brings many to the disk in little more time than one
        list(pool.map(_sync, [path for path in paths if path.is_file() and not path.is_symlink()]))
    for path in reversed([path for path in paths if path.is_dir()]):
        _sync(path)
    _sync(folder.parent)


def share(source: Path, target: Path) -> None:
    """Puts a file that is not going to change into another folder as well, as a link where there are such."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno in (*FULL, errno.EEXIST, errno.ENOENT):
            raise
        shutil.copyfile(source, target)


@contextmanager
def saying(path: Path) -> Iterator[None]:
    """Says in a line why ``path`` could not be written, whichever library has tried.

    Raises:
        WriteError: For an error of the file system; others go on as they are.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        if (why := _why(error, path)) is None:
            raise
        raise WriteError(why) from error


def check_writable(folder: Path, where: str) -> None:
    """Finds out whether files could be written into ``folder``, without making it.

    Arguments:
        where: The key or command that the error message begins with.

    Raises:
        ConfigError: If they could not.
    """
    try:
        there = folder.absolute()
        while not _is_there(there):
            there = there.parent
        longest = max(folder.absolute().parts, key=lambda part: len(os.fsencode(part)))
        if len(os.fsencode(longest)) > os.pathconf(there, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot be written to ({error.strerror}), got {shown(folder)}. Give another folder."
        ) from error


def shown(path: Path | str) -> str:
    """A path as part of a sentence: one that is too long for any use is cut."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:200]}…"


def explained(error: OSError) -> str | None:
    """What an error of the file system means to a user; None if it is no matter of theirs."""
    if error.filename is None or error.errno not in PLACE:
        return None
    return _why(error, Path(os.fsdecode(error.filename)))


def _why(error: Exception, path: Path) -> str | None:
    number, text = getattr(error, "errno", None), str(error)
    if number in FULL or "No space left on device" in text or _is_full(path.parent):
        where = f"the device of {shown(path)}"
        return f"no space left on {where}. Make room, and the same command goes on from here."
    if isinstance(error, OSError) and error.strerror is not None:
        reason = error.strerror
    elif "(os error" in text:  # how safetensors tells it
        reason = text.rpartition(": ")[2]
    else:
        return None
    return f"{shown(path)}: cannot be written ({reason}). Give another folder, or make this one writable."


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 2**16
    except OSError:  # there is no such folder, so that it is not the disk that is at fault
        return False


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # there are file systems that know of no such thing for folders
            raise
    finally:
        os.close(handle)
