"""Seeded changes of files: of raw bytes, of what lies behind check sums, of JSON values and of the cells of tables."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HOSTILE_VALUES = (
    None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x" * 3000, "../../outside", "a\0b", "\ud800",
    "<script>", [], {}, [[]], [None], {"a": 1}, ["x", 1], 2**31, "Ω ✓",
)  # fmt: skip
HOSTILE_CELLS = (
    "", " ", "nan", "inf", "-1", "1e999", "1e18", "\0", "x" * 200_000, '"', '"a', "a\nb", "é✓", "../../outside", "/",
    "<script>", "$x^{", "2", "0.5", "=1+1",
)  # fmt: skip

Mutator = Callable[[random.Random, bytes], bytes]


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to eight changes of raw bytes; sometimes nothing but a part is left."""
    if rng.random() < 0.03:
        return data[: rng.choice((0, 1, 8, len(data) // 2, max(0, len(data) - 1)))]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not changed:
            break
        at, length = rng.randrange(len(changed)), rng.randint(1, 32)
        match rng.randrange(8):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.randrange(256)
            case 2:
                width, order = rng.choice((2, 4)), rng.choice(("little", "big"))
                value = rng.choice(INTERESTING) % 256**width
                changed[at : at + width] = value.to_bytes(width, order)
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = rng.randbytes(length)
            case 5:
                changed[at : at + length] = bytes(length)
            case 6:
                there = rng.randrange(len(changed))
                changed[at:at] = changed[there : there + length]
            case 7:
                del changed[at:]
    return bytes(changed)


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    """One to four bits flipped anywhere, as a failing disk or a bad copy does."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def mutate_head(rng: random.Random, data: bytes) -> bytes:
    """Changes within the first 400 bytes, where headers are."""
    return mutate_bytes(rng, data[:400])[:400].ljust(min(400, len(data)), b"\0") + data[400:]


def mutate_gzipped(rng: random.Random, data: bytes) -> bytes:
    """Changes of what is compressed."""
    return gzip.compress(mutate_head(rng, gzip.decompress(data)), compresslevel=1, mtime=0)


def mutate_png_chunk(rng: random.Random, data: bytes) -> bytes:
    """Changes of one chunk of a PNG, whose check sum is made anew."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = rng.randrange(len(chunks))
    kind, content = chunks[chosen]
    if kind == b"IDAT" and rng.random() < 0.5:
        content = zlib.compress(mutate_bytes(rng, zlib.decompress(content)))
    else:
        content = mutate_bytes(rng, content or b"\0")
    chunks[chosen] = (kind, content)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    packed = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return data[:8] + b"".join(packed)


def mutate_zip_record(rng: random.Random, data: bytes) -> bytes:
    """Changes of one record of a zip, packed anew with a right check sum; sometimes deflated, left out or doubled."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    chosen = rng.randrange(len(records))
    name, content = records[chosen]
    records[chosen] = (name, mutate_bytes(rng, content or b"\0"))
    if rng.random() < 0.1:
        del records[rng.randrange(len(records))]
    packed = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in records:
            archive.writestr(name, content)
    return packed.getvalue()


def mutate_decoded_header(rng: random.Random, data: bytes) -> bytes:
    """Changes of the metadata of a decoded-set file, with their checksum made anew, or of its table of tensors."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.7:
        contents = mutate_json(rng, header["__metadata__"]["contents"].encode())
        text = contents.decode(errors="replace")
        header["__metadata__"] = {"contents": text, "checksum": str(zlib.crc32(text.encode()))}
        packed = json.dumps(header).encode()
    else:
        packed = mutate_json(rng, json.dumps(header).encode())
    return len(packed).to_bytes(8, "little") + packed + body


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """JSON whose values, or keys, are replaced by others that nobody expects."""
    if rng.random() < 0.03:
        return b"[" * 5000 + b"]" * 5000
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(content))
        if not places:
            break
        holder, key = rng.choice(places)
        if rng.random() < 0.2:
            del holder[key]
        elif rng.random() < 0.05:
            deep: object = 1
            for _ in range(rng.choice((50, 400))):
                deep = {"a": deep}
            holder[key] = deep
        else:
            holder[key] = copy.deepcopy(rng.choice(HOSTILE_VALUES))
    return json.dumps(content).encode()


def mutate_json_lines(rng: random.Random, data: bytes) -> bytes:
    """JSON lines, of which one is changed as JSON, doubled or left out."""
    lines = data.splitlines()
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case _:
            lines[at] = mutate_json(rng, lines[at])
    return b"".join(line + b"\n" for line in lines)


def _places(content: object) -> Iterator[tuple[dict | list, object]]:
    """(container, key or index) of every value in nested JSON."""
    if isinstance(content, dict):
        pairs = list(content.items())
    elif isinstance(content, list):
        pairs = list(enumerate(content))
    else:
        return
    for key, value in pairs:
        yield content, key
        yield from _places(value)


def mutate_csv(rng: random.Random, data: bytes) -> bytes:
    """A table whose cells are replaced, or lines and columns doubled or left out."""
    lines = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(rng.choice((1, 1, 2, 3))):
        line = rng.choice(lines)
        match rng.randrange(6):
            case 0 | 1 | 2:
                if line:
                    line[rng.randrange(len(line))] = rng.choice(HOSTILE_CELLS)
            case 3:
                lines.insert(rng.randrange(len(lines) + 1), list(line))
            case 4:
                del line[rng.randrange(len(line) + 1) :]
            case 5:
                line.append(rng.choice(HOSTILE_CELLS))
    text = io.StringIO()
    writer = csv.writer(text, quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    for line in lines:
        if "\0" in "".join(line):  # what the writer itself refuses
            text.write(",".join(line) + "\n")
        else:
            writer.writerow(line)
    return text.getvalue().encode()
