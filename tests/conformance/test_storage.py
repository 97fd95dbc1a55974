"""What every storage promises; each member of the shelf runs this suite."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dagmaster.errors import FileNotFound, PathRefused, StorageError
from dagmaster.storages import MEMBERS, open_storage
from dagmaster.storages.base import Storage

Write = Callable[..., Path]
BIG_BYTES = 20 * 1024 * 1024


def at_file(tmp_path: Path) -> Storage:
    return open_storage(f"file:{tmp_path / 'storage'}")


FACTORIES: dict[str, Callable[[Path], Storage]] = {"file": at_file}


@pytest.fixture(params=FACTORIES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return FACTORIES[request.param](tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A local file that holds the given bytes."""

    def write(content: bytes, name: str = "source") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def put(storage: Storage, write: Write) -> Callable[..., None]:
    """Stage and publish in one go."""

    def put(path: str, content: bytes = b"content", container: str = "cogs", token: str = "t-1") -> None:
        storage.publish(storage.stage(write(content), container, path, token), container, path)

    return put


def read(storage: Storage, path: str, tmp_path: Path, container: str = "cogs") -> bytes:
    target = tmp_path / "fetched"
    size = storage.fetch(container, path, target)
    content = target.read_bytes()
    assert size == len(content)
    return content


def paths(storage: Storage, prefix: str = "") -> list[str]:
    return [info.path for info in storage.list("cogs", prefix)]


def test_every_member_of_the_shelf_runs_this_suite() -> None:
    assert set(FACTORIES) == set(MEMBERS)


# --- bytes in, bytes out -------------------------------------------------------------------------------


def test_published_object_gives_its_bytes_back(storage: Storage, put: Write, tmp_path: Path) -> None:
    put("a/b/c.tif", b"hello")
    assert read(storage, "a/b/c.tif", tmp_path) == b"hello"


@pytest.mark.parametrize("path", ["ünïcödé/名前 🗺.tif", "a b/c+d%20&=.tif", "n" * 255, "...", ".hidden", "a:b", "-x"])
def test_any_honest_name_is_kept_as_it_is(storage: Storage, put: Write, tmp_path: Path, path: str) -> None:
    put(path, path.encode())
    assert paths(storage) == [path]
    assert read(storage, path, tmp_path) == path.encode()


def test_large_file_arrives_whole(storage: Storage, put: Write, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(BIG_BYTES)
    put("big.tif", content)
    assert hashlib.sha256(read(storage, "big.tif", tmp_path)).digest() == hashlib.sha256(content).digest()


def test_head_tells_size_and_time(storage: Storage, put: Write) -> None:
    put("a.tif", b"12345")
    info = storage.head("cogs", "a.tif")
    assert (info.container, info.path, info.size_bytes) == ("cogs", "a.tif", 5)
    assert info.modified_at > 1e9


def test_located_object_can_be_opened(storage: Storage, put: Write) -> None:
    put("a.tif", b"12345")
    assert storage.locate("cogs", "a.tif").startswith("/")


def test_missing_object_is_named(storage: Storage, put: Write, tmp_path: Path) -> None:
    put("folder/a.tif")
    for path in ("missing.tif", "folder", "folder/a.tif/below"):
        for ask in (storage.head, storage.locate, lambda c, p: storage.fetch(c, p, tmp_path / "x")):
            with pytest.raises(FileNotFound, match=f"cogs/{path}"):
                ask("cogs", path)
        assert storage.delete("cogs", path) is False
    assert storage.list("unknown") == []


def test_list_is_ordered_by_path_and_knows_prefixes(storage: Storage, put: Write) -> None:
    for path in ("b.tif", "a/2.tif", "a/10.tif", "a-1.tif", "ab.tif", "B.tif"):
        put(path)
    assert paths(storage) == ["B.tif", "a-1.tif", "a/10.tif", "a/2.tif", "ab.tif", "b.tif"]
    assert paths(storage, "a") == ["a-1.tif", "a/10.tif", "a/2.tif", "ab.tif"]
    assert paths(storage, "a/") == ["a/10.tif", "a/2.tif"]


def test_deleted_object_is_gone_and_the_others_stay(storage: Storage, put: Write) -> None:
    put("a/1.tif")
    put("a/2.tif")
    assert storage.delete("cogs", "a/1.tif") is True
    assert storage.delete("cogs", "a/1.tif") is False
    assert paths(storage) == ["a/2.tif"]
    assert storage.delete("cogs", "a/2.tif") is True
    assert paths(storage) == []


def test_containers_are_apart(storage: Storage, put: Write, tmp_path: Path) -> None:
    put("a.tif", b"1", container="one")
    put("a.tif", b"2", container="two")
    assert read(storage, "a.tif", tmp_path, "one") == b"1"
    assert [info.container for info in storage.list("two")] == ["two"]


# --- staging and publishing ----------------------------------------------------------------------------


def test_staged_object_is_seen_by_nobody(storage: Storage, write: Write) -> None:
    storage.stage(write(b"1"), "cogs", "a.tif", "t-1")
    assert paths(storage) == []
    with pytest.raises(FileNotFound):
        storage.head("cogs", "a.tif")
    assert storage.staged() == ["t-1"]


def test_staged_object_does_not_change_with_its_source(storage: Storage, write: Write, tmp_path: Path) -> None:
    staged = storage.stage(write(b"accepted"), "cogs", "a.tif", "t-1")
    with (tmp_path / "source").open("r+b") as file:
        file.write(b"changed!")
    storage.publish(staged, "cogs", "a.tif")
    assert read(storage, "a.tif", tmp_path) == b"accepted"


def test_publishing_again_changes_nothing(storage: Storage, write: Write, tmp_path: Path) -> None:
    staged = storage.stage(write(b"1"), "cogs", "a.tif", "t-1")
    for _ in range(3):
        storage.publish(staged, "cogs", "a.tif")
    assert read(storage, "a.tif", tmp_path) == b"1"
    assert storage.staged() == []


def test_publishing_replaces_what_was_there(storage: Storage, put: Write, tmp_path: Path) -> None:
    put("a.tif", b"a longer first version")
    put("a.tif", b"second", token="t-2")
    assert read(storage, "a.tif", tmp_path) == b"second"
    assert len(paths(storage)) == 1


def test_staging_again_replaces_what_was_staged(storage: Storage, write: Write, tmp_path: Path) -> None:
    storage.stage(write(b"a longer first version"), "cogs", "a.tif", "t-1")
    storage.publish(storage.stage(write(b"second"), "cogs", "a.tif", "t-1"), "cogs", "a.tif")
    assert read(storage, "a.tif", tmp_path) == b"second"


def test_publishing_what_was_never_staged_is_an_error_that_no_retry_helps(storage: Storage) -> None:
    with pytest.raises(StorageError) as refused:
        storage.publish("t-1/cogs/a.tif", "cogs", "a.tif")
    assert refused.value.retryable is False


def test_object_cannot_lie_below_another_object(storage: Storage, put: Write, write: Write) -> None:
    """True of folders; the others refuse it too, so that a deployment can change its storage."""
    put("a/b")
    for path in ("a/b/c", "a"):
        staged = storage.stage(write(b"1"), "cogs", path, "t-2")
        with pytest.raises(StorageError) as refused:
            storage.publish(staged, "cogs", path)
        assert refused.value.retryable is False
        storage.discard("t-2")
    assert paths(storage) == ["a/b"]


def test_failed_staging_leaves_nothing_half_written(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        storage.stage(tmp_path / "missing", "cogs", "a.tif", "t-1")
    with pytest.raises(StorageError):
        storage.publish("t-1/cogs/a.tif", "cogs", "a.tif")


def test_discard_removes_only_its_token(storage: Storage, write: Write, put: Write) -> None:
    for token in ("t-1", "t-10", "t-2"):
        storage.stage(write(b"1"), "cogs", "a.tif", token)
    storage.stage(write(b"2"), "cogs", "b.tif", "t-1")
    put("published.tif", token="t-3")
    storage.discard("t-1")
    storage.discard("t-1")
    storage.discard("unknown")
    assert storage.staged() == ["t-10", "t-2"]
    storage.publish("t-10/cogs/a.tif", "cogs", "a.tif")
    assert paths(storage) == ["a.tif", "published.tif"]


# --- at once -------------------------------------------------------------------------------------------


def test_publishing_one_path_at_once_leaves_one_whole_file(storage: Storage, write: Write, tmp_path: Path) -> None:
    contents = [bytes([65 + number]) * 100_000 for number in range(16)]
    staged = [
        storage.stage(write(content), "cogs", "deep/er/a.tif", f"t-{number}") for number, content in enumerate(contents)
    ]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: storage.publish(key, "cogs", "deep/er/a.tif"), staged))
    assert read(storage, "deep/er/a.tif", tmp_path) in contents
    assert len(paths(storage)) == 1
    assert storage.staged() == []


def test_publishing_one_staged_object_at_once_succeeds_for_all(storage: Storage, write: Write) -> None:
    staged = storage.stage(write(b"1"), "cogs", "a.tif", "t-1")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: storage.publish(staged, "cogs", "a.tif"), range(8)))
    assert paths(storage) == ["a.tif"]


def test_publishing_beside_deleting_loses_nothing(storage: Storage, write: Write) -> None:
    """The folder may be emptied, and removed, while another file is about to enter it."""
    sources = [storage.stage(write(b"1"), "cogs", f"folder/{number}", f"t-{number}") for number in range(100)]

    def publish_and_delete(number: int) -> None:
        storage.publish(sources[number], "cogs", f"folder/{number}")
        assert storage.delete("cogs", f"folder/{number}") is True

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(publish_and_delete, range(100)))
    assert paths(storage) == []


# --- paths that leave ----------------------------------------------------------------------------------

REFUSED_PATHS = [
    "", ".", "..", "/", "//", "/etc/passwd", "//etc/passwd", "../x", "../../etc/passwd", "a/../b", "a/../../b", "a/..", "./a", "a/.",
    "a/./b", "a//b", "a/", "a///b", "..\\x", "a\\b", "C:\\x", "\\\\host\\share", "a\0b", "\0", "a\nb", "a\rb", "a\tb", "\x1b[2J", "a\x7f",
    "a\x85b", "a\u2028b", "a\ud800b", "n" * 256, "ü" * 128, "a/" * 600 + "b", ".staged", ".staged/t/x", ".staged-x", "a/.staged/b",
    "../cogs/a", "../cogs2/a", "a/../../cogs/b", "..%2f/../x", "a/..\0",
]  # fmt: skip
REFUSED_CONTAINERS = ["", ".", "..", "ab", "a" * 64, "Cogs", "co_gs", "-cogs", "cogs-", "co--gs", "cogs/x", "../cogs", "/cogs", ".staged", "co gs", "cogs\n", "cögs", "co\0gs"]  # fmt: skip
REFUSED_TOKENS = ["", ".", "..", "a/b", "../x", "a b", "a\0", "ü", "t" * 201]


def test_corpus_is_large() -> None:
    assert len(REFUSED_PATHS) >= 40


@pytest.mark.parametrize("path", REFUSED_PATHS)
def test_path_that_leaves_or_hides_is_refused(storage: Storage, write: Write, tmp_path: Path, path: str) -> None:
    refuse_everywhere(storage, write(b"1"), tmp_path, "cogs", path)


@pytest.mark.parametrize("container", REFUSED_CONTAINERS)
def test_container_outside_the_grammar_is_refused(
    storage: Storage, write: Write, tmp_path: Path, container: str
) -> None:
    refuse_everywhere(storage, write(b"1"), tmp_path, container, "a.tif")
    with pytest.raises(PathRefused):
        storage.list(container)


@pytest.mark.parametrize("token", REFUSED_TOKENS)
def test_token_outside_the_grammar_is_refused(storage: Storage, write: Write, token: str) -> None:
    source = write(b"1")
    for ask in (
        lambda: storage.stage(source, "cogs", "a.tif", token),
        lambda: storage.discard(token),
    ):
        with pytest.raises(PathRefused):
            ask()


@pytest.mark.parametrize("staged", ["", "t-1", "t-1/", "t-1/../t-2/cogs/a", "../t-1/cogs/a", "/etc/passwd", "t-1//x"])
def test_staged_key_that_leaves_is_refused(storage: Storage, staged: str) -> None:
    with pytest.raises(PathRefused):
        storage.publish(staged, "cogs", "a.tif")


def refuse_everywhere(storage: Storage, source: Path, tmp_path: Path, container: str, path: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    for ask in (
        lambda: storage.fetch(container, path, tmp_path / "out"),
        lambda: storage.stage(source, container, path, "t-1"),
        lambda: storage.publish("t-1/cogs/a.tif", container, path),
        lambda: storage.head(container, path),
        lambda: storage.delete(container, path),
        lambda: storage.locate(container, path),
    ):
        with pytest.raises(PathRefused):
            ask()
    assert sorted(tmp_path.rglob("*")) == before
