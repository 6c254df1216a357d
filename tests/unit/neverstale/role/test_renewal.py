"""When a process starts again with what its files say: a file that rests, is good and says something else."""

from pathlib import Path

import pytest

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.role.renewal import PART, CatalogFile, Renewal
from neverstale.role.service import Health
from neverstale.settings import Settings

GOOD = 'database = "d"\n[resources.r]\nkey_type = "int"\n'
OTHER = GOOD + "ttl_seconds = 5\n"
WRONG = GOOD + "ttl_second = 5\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.toml"
    put(path, GOOD)
    return path


def put(path: Path, text: str) -> None:
    """By another file in its place, as editors and Kubernetes do."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def looks(file: CatalogFile, times: int = 2) -> bool:
    return sum(file.look() for _ in range(times)) > 0


def test_a_file_is_read_when_it_has_rested(path: Path) -> None:
    file = CatalogFile(path, Catalog.load(path))
    assert not looks(file)
    put(path, WRONG)
    assert not file.look()
    put(path, OTHER)
    assert not file.look()
    assert file.look()
    assert file.refused is None


def test_a_file_that_says_the_same_otherwise_is_no_other_catalog(path: Path) -> None:
    file = CatalogFile(path, Catalog.load(path))
    put(path, "# a remark\n" + GOOD)
    assert not looks(file, 3)


@pytest.mark.parametrize("text", [WRONG, "", "[[[", None])
def test_a_file_that_is_wrong_or_gone_is_told_until_it_is_right(path: Path, text: str | None) -> None:
    file, health = CatalogFile(path, Catalog.load(path)), Health({"redis": None})
    put(path, text) if text is not None else path.unlink()
    looks(file)
    file.tell(health)
    assert health.ready and "refused" in health.noted[PART][1]
    put(path, GOOD)
    looks(file)
    file.tell(health)
    assert PART not in health.noted


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_changed_file_is_taken_up_by_itself_or_only_when_it_is_asked_for(path: Path, by_itself: bool) -> None:
    file = CatalogFile(path, Catalog.load(path))
    renewal = Renewal(lambda: (Settings(), Catalog.load(path)), file, by_itself=by_itself)
    put(path, OTHER)
    found = [renewal.is_due() for _ in range(2)][-1]
    assert (found is not None) is by_itself
    assert renewal.is_asked() is not None


def test_settings_that_are_wrong_are_not_taken_up_either(path: Path) -> None:
    def read() -> tuple[Settings, Catalog]:
        raise Misconfigured("kafka.topic", "is wrong", "correct it")

    renewal = Renewal(read, CatalogFile(path, Catalog.load(path)), by_itself=True)
    assert renewal.is_asked() is None
    assert renewal.file.refused is not None and "kafka.topic" in renewal.file.refused
