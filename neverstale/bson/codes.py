"""The bytes by which BSON tells the types of values. Source: bsonspec.org."""

from typing import Final

DOUBLE, STRING, OBJECT, ARRAY, BINARY, UNDEFINED, OID, BOOL, DATE, NULL, REGEX = range(0x01, 0x0C)
DBPOINTER, CODE, SYMBOL, SCOPED, INT, TIMESTAMP, LONG, DECIMAL = range(0x0C, 0x14)
MINKEY: Final = 0xFF
MAXKEY: Final = 0x7F
