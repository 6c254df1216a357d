"""Remedies as lines to paste."""

import shlex
import subprocess
from pathlib import Path

import pytest

from neverstale.ops.check.paste import redis_cli
from neverstale.settings import RedisSettings

FAKE = r"""#!/bin/sh
case "$*" in *SENTINEL*) printf '10.0.0.1\n6380\n';; esac
echo "$@" >&2
"""


def settings(url: str) -> RedisSettings:
    return RedisSettings.model_validate({"url": url})


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("redis://h:6379/0", "redis-cli -u redis://h:6379/0 PING"),
        ("redis://me:s3cret@h", 'redis-cli -u "$NEVERSTALE_REDIS__URL" PING'),
        ("redis+cluster://a:1,b:2", "redis-cli --cluster call a:1 PING"),
        (
            "redis+cluster://me:s3cret@a:1,b:2",
            "REDISCLI_AUTH=PASSWORD redis-cli --user me --cluster call a:1 PING",
        ),
    ],
)
def test_a_command_for_one_server_or_for_each_node_of_a_cluster(url: str, line: str) -> None:
    assert redis_cli(settings(url), "PING") == line


def test_a_command_for_the_master_behind_sentinels(tmp_path: Path) -> None:
    line = redis_cli(settings("redis+sentinel://me:s3cret@a:1,b/the master/2"), "PING")
    assert "s3cret" not in line
    fake = tmp_path / "redis-cli"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    path = f"PATH={shlex.quote(str(tmp_path))}:$PATH"
    ended = subprocess.run(["sh", "-c", f"{path}; {line}"], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines() == [
        "-h a -p 1 --raw SENTINEL get-master-addr-by-name the master",
        "-h 10.0.0.1 -p 6380 -n 2 PING",
    ]
