"""The bill of materials: every distribution of an environment, once, with its version."""

from importlib.metadata import distributions

from neverstale import __version__
from neverstale.ops.sbom import bill


def test_it_names_everything_that_is_installed_and_us_as_what_it_is_for() -> None:
    found = list(distributions())
    made = bill(found, "neverstale")
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.5")
    assert made["metadata"]["component"]["purl"] == f"pkg:pypi/neverstale@{__version__}"
    named = {component["name"]: component["version"] for component in made["components"]}
    assert len(named) == len(made["components"])
    wanted = {"pymongo", "redis", "aiokafka", "fastapi", "prometheus-client"}
    assert wanted <= named.keys()
    assert {one.version for one in found} == {*named.values(), __version__}


def test_equal_environments_have_equal_bills() -> None:
    found = list(distributions())
    assert bill(found, "neverstale") == bill(found[::-1], "neverstale")
