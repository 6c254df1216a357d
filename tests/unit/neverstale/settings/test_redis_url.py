"""URLs of sentinels and clusters."""

import pytest

from neverstale.errors import Misconfigured
from neverstale.settings.redis_url import Address, ClusterUrl, Sentinel, cluster_of, sentinel_of
from neverstale.settings.sources import load


@pytest.mark.parametrize("url", ["redis://h", "rediss://me:p@h:6380/2", "unix:///run/redis.sock"])
def test_other_urls_are_of_one_server(url: str) -> None:
    assert sentinel_of(url) is None


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("redis+sentinel://a/m", Sentinel((Address("a", 26379),), "m", 0, None, None, tls=False)),
        (
            "rediss+sentinel://me:p%40%2F@a:1,b,[::1]:3/my-master/7",
            Sentinel(
                (Address("a", 1), Address("b", 26379), Address("::1", 3)), "my-master", 7, "me", "p@/", tls=True
            ),
        ),
        (
            "redis+sentinel://:p@a,b/m%20m/",
            Sentinel((Address("a", 26379), Address("b", 26379)), "m m", 0, None, "p", False),
        ),
    ],
)
def test_a_url_names_sentinels_master_and_who_we_are(url: str, meant: Sentinel) -> None:
    assert sentinel_of(url) == meant
    assert load({"NEVERSTALE_REDIS__URL": url})[0].redis.url.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("redis+sentinel://a:1,b:2", "names no master"),
        ("redis+sentinel://a:1,b:2//0", "names no master"),
        ("redis+sentinel://a:1/m/x", "does not end in the number of a database"),
        ("redis+sentinel://a:1/m/s3cret/0", "does not end in the number of a database"),
        ("redis+sentinel://a:s3cret/m", "is not host:port"),
        ("redis+sentinel://a:70000/m", "is not host:port"),
        ("redis+sentinel://a,/m", "a sentinel without a host"),
        ("redis+sentinel:///m", "a sentinel without a host"),
        ("redis+sentinel://me:s3/cret@h/m", "names no master"),
        ("redis+sentinel://me/s3cret@h", "names no master"),
    ],
)
def test_a_wrong_url_is_refused_without_repeating_it(url: str, wrong: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        load({"NEVERSTALE_REDIS__URL": url})
    assert wrong in str(caught.value)
    assert "s3" not in str(caught.value) and "NEVERSTALE_REDIS__URL" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("redis+cluster://a", ClusterUrl((Address("a", 6379),), None, None, tls=False)),
        (
            "rediss+cluster://me:p%40%2F@a:1,b,[::1]:3/0",
            ClusterUrl((Address("a", 1), Address("b", 6379), Address("::1", 3)), "me", "p@/", tls=True),
        ),
    ],
)
def test_a_url_names_nodes_of_a_cluster_whose_documents_lie_in_cells(url: str, meant: ClusterUrl) -> None:
    assert cluster_of(url) == meant
    assert load({"NEVERSTALE_REDIS__URL": url})[0].redis.layout == "partition"


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("redis+cluster://a/1", "names a database"),
        ("redis+cluster://a:s3cret", "is not host:port"),
        ("redis+cluster://a,", "a node without a host"),
        ("redis+cluster:///", "a node without a host"),
    ],
)
def test_a_wrong_url_of_a_cluster_is_refused_without_repeating_it(url: str, wrong: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        load({"NEVERSTALE_REDIS__URL": url})
    assert wrong in str(caught.value) and "s3" not in str(caught.value)


def test_a_cluster_cannot_be_one_cell() -> None:
    with pytest.raises(Misconfigured, match=r"redis\.cells|REDIS__CELLS"):
        load({"NEVERSTALE_REDIS__URL": "redis+cluster://a", "NEVERSTALE_REDIS__CELLS": "one"})


@pytest.mark.parametrize(("cells", "layout"), [("one", "one"), ("partition", "partition"), (None, "one")])
def test_one_redis_is_one_cell_unless_it_is_told_otherwise(cells: str | None, layout: str) -> None:
    given = {} if cells is None else {"NEVERSTALE_REDIS__CELLS": cells}
    assert load(given)[0].redis.layout == layout
