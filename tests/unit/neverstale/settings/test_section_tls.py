"""The settings of secured links: what belongs together, and what would have no effect."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from neverstale.settings import Kafka, RedisSettings

PEM = Path(__file__)
SCRAM = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "u", "sasl_password": "p"}


def problem(section: type[Any], **given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        section.model_validate(given)
    return str(caught.value.errors()[0]["ctx"])


@pytest.mark.parametrize(
    "given",
    [
        {"security_protocol": "SSL"},
        {"security_protocol": "SSL", "ssl_cafile": PEM, "ssl_certfile": PEM, "ssl_keyfile": PEM},
        {"security_protocol": "SSL", "ssl_certfile": PEM, "ssl_key_password": "p"},
        {"security_protocol": "SASL_SSL", "ssl_certfile": PEM, **SCRAM},
        {"security_protocol": "SASL_PLAINTEXT", **SCRAM},
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "oauth_token_file": PEM},
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "oauth_token_provider": "our.tokens:Make"},
    ],
)
def test_kafka_may_be_spoken_to_in_all_these_ways(given: dict[str, Any]) -> None:
    Kafka.model_validate(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ssl_cafile": PEM}, "has no effect without TLS"),
        ({"security_protocol": "SASL_PLAINTEXT", **SCRAM, "ssl_certfile": PEM}, "has no effect without TLS"),
        ({"security_protocol": "SSL", "ssl_keyfile": PEM}, "has no effect without a certificate"),
        ({"security_protocol": "SSL", "ssl_key_password": "p"}, "has no effect without a certificate"),
        ({"security_protocol": "SSL", "ssl_certfile": PEM.parent / "no"}, "there is no file"),
        ({"security_protocol": "SSL", "sasl_username": "u"}, "has no effect with SSL"),
        ({"security_protocol": "SSL", "oauth_token_file": PEM}, "has no effect with SSL"),
        ({"security_protocol": "SASL_SSL", **SCRAM, "oauth_token_file": PEM}, "no effect with SCRAM-SHA-512"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "is missing"),
        (
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "OAUTHBEARER",
                "oauth_token_file": PEM,
                "sasl_password": "p",
            },
            "has no effect with OAUTHBEARER",
        ),
        (
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "OAUTHBEARER",
                "oauth_token_file": PEM,
                "oauth_token_provider": "a:b",
            },
            "two sources of tokens",
        ),
        (
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "OAUTHBEARER",
                "oauth_token_file": PEM.parent / "no",
            },
            "there is no file",
        ),
    ],
)
def test_what_would_have_no_effect_on_kafka_is_refused(given: dict[str, Any], said: str) -> None:
    assert said in problem(Kafka, **given)


@pytest.mark.parametrize("named", ["tokens", "tokens:", ":Make", "our tokens:Make", "a:b.c", "a;b:c"])
def test_a_provider_of_tokens_is_named_by_module_and_attribute(named: str) -> None:
    with pytest.raises(ValidationError):
        Kafka(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", oauth_token_provider=named)


def test_certificates_of_redis_want_a_url_with_tls() -> None:
    RedisSettings.model_validate({"url": "rediss://host:1/0", "ssl_cafile": PEM, "ssl_certfile": PEM})
    assert "rediss://" in problem(RedisSettings, url="redis://host:1/0", ssl_cafile=PEM)
    assert "has no effect without a certificate" in problem(RedisSettings, url="rediss://h", ssl_keyfile=PEM)


@pytest.mark.parametrize(
    "option", ["ssl_cert_reqs=none", "ssl_ca_certs=%2Fca.pem", "ssl_check_hostname=", "db=1&ssl_x=1"]
)
def test_options_of_tls_do_not_stand_in_the_url_of_redis(option: str) -> None:
    assert "redis.ssl_cafile" in problem(RedisSettings, url=f"rediss://host:1/0?{option}")
