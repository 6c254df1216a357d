"""Who makes the archive of Kafka's classes, and what stays when that goes wrong."""

import os
from pathlib import Path

import pytest

from neverstale.ops.stack.kafka.class_archive import archive_of, making
from neverstale.ops.stack.kafka.jvm import Jvm


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "classes.jsa"


@pytest.fixture
def jvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jvm:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("java", "kafka_2.13-4.1.1.jar", "scala.jar"):
        (tmp_path / name).touch()
    return Jvm(tmp_path / "java", tmp_path)


def test_it_appears_when_it_is_whole(archive: Path) -> None:
    with making(archive) as folder:
        assert folder is not None
        (folder / archive.name).write_text("classes")
        assert not archive.exists()
    assert archive.read_text() == "classes"
    with making(archive) as folder:
        assert folder is None


def test_of_two_at_once_one_makes_it(archive: Path) -> None:
    with making(archive) as one, making(archive) as other:
        assert one is not None
        assert other is None


def test_what_went_wrong_leaves_nothing_and_is_tried_again(archive: Path) -> None:
    with pytest.raises(RuntimeError), making(archive) as folder:
        assert folder is not None
        (folder / archive.name).write_text("half")
        raise RuntimeError
    with making(archive) as folder:
        assert folder is not None
        assert not any(folder.iterdir())


def test_a_java_that_writes_none_is_not_asked_again(archive: Path, jvm: Jvm) -> None:
    with making(archive):
        pass
    with making(archive) as folder:
        assert folder is None
    assert jvm.reading(archive) == jvm


def test_where_nothing_can_be_written_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with making(tmp_path / "file" / "classes.jsa") as folder:
        assert folder is None


@pytest.mark.parametrize("changed", ["java", "kafka_2.13-4.1.1.jar", "scala.jar"])
def test_it_is_of_just_this_java_and_these_jars(jvm: Jvm, changed: str) -> None:
    before = archive_of(jvm)
    assert archive_of(jvm) == before
    os.utime(jvm.libs / changed, (1, 1))
    assert archive_of(jvm) != before
