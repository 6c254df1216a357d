"""The blocks of docs/security.md that are written from the privileges."""

from neverstale.ops.privileges import kafka, mongodb, redis
from neverstale.settings import Kafka, RedisSettings

DATABASE = "shop"
COLLECTIONS = ("orders", "customers")
SUBJECT = "CN={user},O=neverstale"


def document() -> str:
    """For a catalog of the database `shop` and settings as they are shipped."""
    kafka_settings, prefix = Kafka(), RedisSettings().prefix
    parts = (
        ("### MongoDB: roles", _block("js", mongodb.roles_script(DATABASE, COLLECTIONS))),
        ("### MongoDB: users with passwords (SCRAM)", _block("js", mongodb.users_script(DATABASE))),
        (
            "### MongoDB: users by certificate (x.509), instead",
            _block("js", mongodb.certified_script(DATABASE, SUBJECT)),
        ),
        ("### Kafka: properties of a broker", _block("properties", _server())),
        ("### Kafka: users with passwords (SCRAM)", _block("sh", kafka.users_script())),
        ("### Kafka: access control lists", _block("sh", kafka.script(kafka_settings))),
        ("### Redis: users", _block("text", redis.script(prefix))),
    )
    return "\n\n".join(f"{title}\n\n{block}" for title, block in parts)


def _server() -> str:
    files = {"keystore": "/certificates/kafka.pem", "truststore": "/certificates/ca.pem"}
    return kafka.SERVER.format(**files, broker="kafka", admin="admin").rstrip()


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
