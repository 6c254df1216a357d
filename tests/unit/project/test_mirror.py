"""A rule's tests are found from where the rule is: `api/reads/l1.py` → `tests/unit/api/reads/test_l1.py`."""

from pathlib import Path

import pytest

from tests.support.project import ROOT

UNIT = ROOT / "tests" / "unit"
FILES = [path.relative_to(UNIT) for path in sorted(UNIT.rglob("test_*.py")) if path.parent != Path(__file__).parent]


@pytest.mark.parametrize("path", FILES, ids=map(str, FILES))
def test_a_file_is_named_after_the_module_that_it_tests(path: Path) -> None:
    """Alone, or before further words: `test_derive_outages.py` is of `derive.py`, too."""
    words = path.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    folder = ROOT / path.parent
    assert any((folder / f"{name}.py").is_file() or (folder / name).is_dir() for name in names)
