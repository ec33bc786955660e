"""Seeded damage to the bytes of a file: what disks, transfers and ill will make of it."""

import random
import re

EXTREME = [b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff" * 7 + b"\x7f", b"\0\0\0\x80"]
NUMBERS = [b"0", b"-1", b"7", b"9999999999", b"99999999999999999999", b"1e999", b"NaN", b"null", b"[]", b'"x"']


def mutate(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to three kinds of damage."""
    for _ in range(chance.randint(1, 3)):
        data = chance.choice(DAMAGES)(data, chance)
    return data


def flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(data), chance.randint(1, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randint(0, len(data))]


def drop(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    return data[:start] + data[start + chance.randint(1, 64) :]


def double(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    return data[:start] + data[start : start + chance.randint(1, 64)] + data[start:]


def insert(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    return data[:start] + chance.randbytes(chance.randint(1, 16)) + data[start:]


def overwrite(data: bytes, chance: random.Random) -> bytes:
    start, extreme = chance.randint(0, min(len(data), chance.choice([16, 300, len(data)]))), chance.choice(EXTREME)
    return data[:start] + extreme + data[start + len(extreme) :]


def blank(data: bytes, chance: random.Random) -> bytes:
    """A block that never reached the disk."""
    start, length = chance.randint(0, len(data)), chance.randint(1, 512)
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def renumber(data: bytes, chance: random.Random) -> bytes:
    """A number written in digits becomes another."""
    found = list(re.finditer(rb"\d+", data[: chance.choice([400, len(data)])]))
    if not found:
        return flip(data, chance)
    number = chance.choice(found)
    return data[: number.start()] + chance.choice(NUMBERS) + data[number.end() :]


DAMAGES = (flip, cut, drop, double, insert, overwrite, blank, renumber)
