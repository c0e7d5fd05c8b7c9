"""Telling files apart, and remembering what they are."""

import json
import multiprocessing
import os
import random

import pytest

from unlearn.store import digests, remembered
from unlearn.store.remembered import Book


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and a threshold that small files reach."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "LARGE", 4096)
    monkeypatch.setattr(digests, "SETTLED", 0)
    return tmp_path / "cache" / "unlearn" / "digests.json"


@pytest.fixture
def reads(monkeypatch):
    """Every file that is read as a whole."""
    found = []

    def whole(path, real=digests._whole):
        found.append(path)
        return real(path)

    monkeypatch.setattr(digests, "_whole", whole)
    return found


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << (offset % 8)
    path.write_bytes(content)


def test_any_byte_counts(tmp_path):
    path, size = tmp_path / "weights", 2**20
    path.write_bytes(random.Random(0).randbytes(size))
    first = digests.digest(path)
    dice = random.Random(1)
    for offset in (
        0,
        size - 1,
        size // 64 + 4096,
        size - 4096 - 1,
        *(dice.randrange(size) for _ in range(50)),
    ):
        flip(path, offset)
        assert digests.digest(path) != first, offset
        flip(path, offset)
    assert digests.digest(path) == first
    path.write_bytes(path.read_bytes() + b"\0")
    assert digests.digest(path) != first


def test_a_large_file_is_read_once(tmp_path, reads):
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))
    assert digests.digest(path) == digests.digest(path)
    assert reads == [path]


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path, reads):
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))
    first, before = digests.digest(path), path.stat()
    flip(path, 3000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert digests.digest(path) != first
    assert len(reads) == 2


def test_a_file_that_changed_a_moment_ago_is_not_remembered(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", 60 * 10**9)
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))
    assert digests.digest(path) == digests.digest(path)
    assert len(reads) == 2


def test_a_file_that_is_written_while_it_is_read_is_not_remembered(tmp_path, cache, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))

    def whole(file, real=digests._whole):
        found = real(file)
        flip(file, 0)
        return found

    monkeypatch.setattr(digests, "_whole", whole)
    digests.digest(path)
    assert not cache.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "[]",
        lambda _: '{"entries": {}}',
        lambda text: text.replace('": "', '": "0', 1),
        lambda text: json.dumps(json.loads(text) | {"entries": {}}),
    ],
)
def test_a_damaged_book_is_found_out_again(tmp_path, cache, reads, damage):
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))
    first = digests.digest(path)
    cache.write_text(damage(cache.read_text()))
    assert digests.digest(path) == first
    assert digests.digest(path) == first
    assert len(reads) == 2


def test_a_book_that_cannot_be_written_is_no_fault(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))
    assert digests.digest(path) == digests.digest(path)


def _write(number):
    for entry in range(20):
        with Book("shared") as book:
            book.add(f"{number}-{entry}", entry)


def test_several_processes_write_one_book():
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_write, range(4))
    whole = json.loads((remembered.cache_folder() / "shared.json").read_text())
    assert whole["check"] == remembered._check(whole["entries"])
    assert [path.name for path in remembered.cache_folder().iterdir()] == ["shared.json"]


def test_a_book_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr(remembered, "PAGES", 3)
    for number in range(5):
        with Book("small") as book:
            book.add(str(number), number)
    assert [Book("small").get(str(number)) for number in range(5)] == [None, None, 2, 3, 4]


def test_files_are_known_by_name_and_content(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"1")
    assert digests.digest_of({"a": one}) == digests.digest_of({"a": other})
    assert digests.digest_of({"a": one}) != digests.digest_of({"b": one})
    other.write_bytes(b"2")
    assert digests.digest_of({"a": one, "b": other}) != digests.digest_of({"a": other, "b": one})
