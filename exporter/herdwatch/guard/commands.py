"""What a guard says to Redis, declared once for asyncio and threads.

A lease is a key beside the value, in the value's hash slot, that holds the token of the load it belongs to. Every
script that ends a lease compares the token first: who lost the lease can no longer write. PUBLISH is called so that an
ACL that denies channels fails the message and not the script.
"""

from __future__ import annotations

from typing import Any

from herdwatch.guard import values

Command = tuple[Any, ...]

LEASES = "herdwatch:lease:"

FILLED = b"filled"
GONE = b"gone"
FAILED = b"failed "
"""Messages on the lease's channel: there is a value; there is none, try yourself; the load failed with this type."""

FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
redis.pcall('PUBLISH', KEYS[2], ARGV[4])
return 1"""
FILL_COLD = """
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local there = redis.pcall('GET', KEYS[1])
local ours = not there or type(there) == 'string' and string.sub(there, 1, #ARGV[5]) == ARGV[5]
if ours then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
if KEYS[2] then
  redis.call('DEL', KEYS[2])
  redis.pcall('PUBLISH', KEYS[2], ARGV[4])
end
return ours and 1 or -1"""
"""What a warm-up fills with: only over nothing, or over a value that a guard wrote."""
RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', KEYS[1], ARGV[2])
return 1"""
EXTEND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])"""
PUT = """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
redis.pcall('PUBLISH', KEYS[2], ARGV[3])
return 1"""
REMOVE = """
local removed = redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[2])
redis.pcall('PUBLISH', KEYS[2], ARGV[1])
return removed"""


def lease_of(key: str) -> str:
    """The lease's key and channel: of that key alone, and in its slot, by its own hash tag or as one.

    A key without a tag but with a closing brace cannot be made one; its slot is another's, which only a cluster minds.
    """
    opened = key.find("{")
    tagged = opened >= 0 and key.find("}", opened) > opened + 1
    return LEASES + (":" + key if tagged else "{" + key + "}")


def acquire(key: str, token: str, seconds: float) -> tuple[Command, Command]:
    """Take the lease if it is free, then read the value: another process may have filled it since the miss."""
    return ("SET", lease_of(key), token, "NX", "PX", _ms(seconds)), ("GET", key)


def extend(key: str, token: str, seconds: float) -> Command:
    """1 if the lease is still this token's."""
    return "EVAL", EXTEND, 1, lease_of(key), token, _ms(seconds)


def fill(key: str, token: str, raw: bytes, seconds: float) -> Command:
    """1 if the value was stored: only the holder of the lease can."""
    return "EVAL", FILL, 2, key, lease_of(key), token, raw, _ms(seconds), FILLED


def fill_cold(key: str, token: str | None, raw: bytes, seconds: float) -> Command:
    """1 if the value of a warm-up was stored, 0 if its lease is another's now, -1 if what stands there is foreign."""
    keys = (key,) if token is None else (key, lease_of(key))
    return "EVAL", FILL_COLD, len(keys), *keys, token or "", raw, _ms(seconds), FILLED, values.MAGIC


def release(key: str, token: str, message: bytes) -> Command:
    """End the lease without a value."""
    return "EVAL", RELEASE, 1, lease_of(key), token, message


def put(key: str, raw: bytes, seconds: float) -> Command:
    """Store a value and break whatever lease there is."""
    return "EVAL", PUT, 2, key, lease_of(key), raw, _ms(seconds), FILLED


def put_without_lease(key: str, raw: bytes, seconds: float) -> Command:
    """Store a value of a guard that has leases switched off."""
    return "SET", key, raw, "PX", _ms(seconds)


def ending(
    key: str, token: str | None, raw: bytes, seconds: float, *, fenced: bool, forgotten: bool, cold: bool = False
) -> Command | None:
    """What ends a load that has a value, to be kept for `seconds` (0: not at all).

    `fenced` loads store under their lease's token or not at all; what a write has made `forgotten` is not stored; a
    warm-up's load stores only where it is `cold`.
    """
    keep = seconds > 0 and not forgotten
    if cold and keep and (token is not None or not fenced):
        return fill_cold(key, token, raw, seconds)
    if token is not None:
        return fill(key, token, raw, seconds) if keep else release(key, token, GONE)
    return put_without_lease(key, raw, seconds) if keep and not fenced else None


def remove(key: str) -> Command:
    """Remove a value and break whatever lease there is; the reply is how many values there were."""
    return "EVAL", REMOVE, 2, key, lease_of(key), GONE


def failure_of(error: BaseException) -> bytes:
    """The message that a load failed: the exception's type and nothing of its text, which may hold a secret."""
    return FAILED + type(error).__name__[:100].encode("utf-8", "replace")


def failed_kind(message: bytes) -> str | None:
    """The type's name if the message says that a load failed."""
    return message[len(FAILED) :].decode("utf-8", "replace") if message.startswith(FAILED) else None


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
