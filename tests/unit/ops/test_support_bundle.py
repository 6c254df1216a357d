"""No secret leaves in a support bundle, however it is spelled and wherever it was met."""

import json
from urllib.parse import quote

import pytest

from neverstale.ops.support_bundle import secrets_of, without
from neverstale.settings.sources import load

PASSWORDS = ["s3cret", "p@ss/w:rd?", "ключ-%41", 'quo"te\\', 'both-"ü\\']


@pytest.mark.parametrize("password", PASSWORDS)
def test_every_spelling_of_a_password_is_struck_out(password: str) -> None:
    spelled = quote(password, safe="")
    settings, _ = load(
        {
            "NEVERSTALE_MONGODB__URI": f"mongodb://me:{spelled}@db.internal:27017/?replicaSet=rs0",
            "NEVERSTALE_REDIS__URL": f"redis://:{spelled}@cache.internal:6379/0",
            "NEVERSTALE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "NEVERSTALE_KAFKA__SASL_USERNAME": "us",
            "NEVERSTALE_KAFKA__SASL_PASSWORD": f"kafka-{password}",
            "NEVERSTALE_API__CURSOR_SECRET": "sixteen letters or more",
        }
    )
    secrets = list(secrets_of(settings))
    met = "\n".join(
        [
            settings.mongodb.uri.get_secret_value(),
            f"a server said: {password}, and kafka-{password}",
            *(
                json.dumps({"told": json.dumps({"inside": password}, ensure_ascii=strict)})
                for strict in (True, False)
            ),
            *(json.dumps({"told": f"kafka-{password}"}, ensure_ascii=strict) for strict in (True, False)),
            f"http://h/?key={quote(f'kafka-{password}', safe='')}",
            "sixteen letters or more",
        ]
    )
    clean = without(secrets, met)
    parts = {json.dumps(password, ensure_ascii=strict)[1:-1] for strict in (True, False)}
    assert all(one not in clean for one in (password, spelled, *parts, "sixteen letters"))
    assert "db.internal:27017" in clean


def test_a_mongodb_option_that_is_a_password_is_a_secret() -> None:
    uri = "mongodb://u:pppp@h:1/?replicaSet=rs0&tls=true&tlsCertificateKeyFilePassword=%66ile-key"
    secrets = list(secrets_of(load({"NEVERSTALE_MONGODB__URI": uri})[0]))
    assert {"pppp", "%66ile-key", "file-key"} <= set(secrets)


def test_a_password_in_any_url_is_struck_out_whoever_wrote_it_there() -> None:
    text = "# http://me:x@h/, redis://:pass@h:1/0 and mongodb://u:p%40@a,b/?x=1; http://h:80/a@b stays"
    assert without([], text) == (
        "# http://me:***@h/, redis://:***@h:1/0 and mongodb://u:***@a,b/?x=1; http://h:80/a@b stays"
    )
