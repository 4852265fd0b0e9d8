"""Damaged, odd and hostile input for every reader: refused in the one kind of the reader, or read as it stands.

    python -m benchmarks.fuzz --inputs 100000 --seed 7       # in all, spread over the readers
    python -m benchmarks.fuzz --reader score --inputs 5000

What is told as a finding: an exception that is not the reader's kind, a refusal that names no file or takes several
lines, more than 10 s, 1 GiB more memory, or a table that a plain reading of the same text contradicts. The input of a
finding is kept. An input depends on the seed, the reader and its number alone.
"""

from __future__ import annotations

import logging
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from benchmarks.fuzz_readers import READERS, Contradiction, Reader

MAX_SECONDS = 10
MAX_MORE_KIB = 1 << 20
MAX_MESSAGE = 2_000
_ODD_TEXTS = (
    *b", \" ' # - | [ ] { } *a null true ~ %s $ ../ nan inf -inf 1e309 1e400 -1 0 0x1 1_0 1,5".split(),
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\r\n",
        b"\t",
        b" ",
        b"\xe2\x80\xa8",
        b"\xc2\xa0",
    ),
    *(b"&a [*a]", b"<<: ", b"!!timestamp x", b"? ", b": ", b"\x1b[31m"),
    *(b"9" * 30, b"9" * 5_000, b"[" * 3_000, b"{'a':" * 500, b"x" * 70_000, b"1" + b":1" * 4_000),
)
_ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class Hang(BaseException):
    """An input took longer than `MAX_SECONDS`; no reader may take it for an error of its own."""


def damage(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Returns a content with one to six changes, or parts of another one in it."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        content = _change(content, rng, others)
    return content


def _change(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(content) + 1)
    end = min(len(content), start + rng.choice((1, 1, 2, 4, 8, 64, 1_000)))
    head, part, tail = content[:start], content[start:end], content[end:]
    match rng.randrange(10):
        case 0:
            return head + bytes(byte ^ (1 << rng.randrange(8)) for byte in part[:1]) + part[1:] + tail
        case 1:
            return head + tail
        case 2:
            return head + part * rng.choice((2, 3, 50)) + tail
        case 3:
            return head
        case 4:
            return head + rng.choice(_ODD_TEXTS) + part + tail
        case 5:
            return head + rng.choice(_ODD_TEXTS) + tail
        case 6:
            size, is_little = rng.choice((1, 2, 4, 8)), rng.random() < 0.5
            number = rng.choice(_ODD_NUMBERS) & ((1 << 8 * size) - 1)
            return head + number.to_bytes(size, "little" if is_little else "big") + content[start + size :]
        case 7:
            return head + rng.randbytes(len(part)) + tail
        case 8:
            other = rng.choice(others)
            place = rng.randrange(len(other) + 1)
            return head + other[place : place + rng.choice((8, 64, 1_000))] + tail
        case _:
            lines = content.split(b"\n")
            one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[one], lines[two] = lines[two], rng.choice((lines[one], lines[two]))
            return b"\n".join(lines)


def fuzz_reader(reader: Reader, num_inputs: int, seed: int, kept: Path) -> list[str]:
    """Gives a reader many inputs, and returns what was found, one line for each kind."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        path = Path(place) / reader.file_name
        for number in range(num_inputs):
            rng = random.Random(f"{seed} {reader.name} {number}")
            content = reader.wrap(damage(rng.choice(reader.seeds), rng, reader.seeds))
            path.write_bytes(content)
            kept.mkdir(parents=True, exist_ok=True)
            (kept / "last").write_bytes(content)  # should the process itself be lost
            if finding := _try(reader, path):
                found[finding] += 1
                if found[finding] == 1:
                    (kept / f"{reader.name}-{seed}-{number}").write_bytes(content)
    return [f"{reader.name}: {count} times, {finding}" for finding, count in found.items()]


def _try(reader: Reader, path: Path) -> str:
    """Reads one input and returns what is wrong with how that ended; empty where nothing is."""
    before_kib, begin = _most_kib(), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    finding = ""
    try:
        reader.read(path)
    except Hang:
        finding = f"more than {MAX_SECONDS} s"
    except Contradiction as error:
        finding = str(error)
    except reader.kinds as error:
        message = str(error)
        is_named = reader.file_name in message or not reader.names_file
        if not is_named or len(message) > MAX_MESSAGE or len(message.splitlines()) != 1:
            finding = f"a refusal such as {message[:200]!r}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        finding = (
            f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:200]!r}"
        )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if time.monotonic() - begin > MAX_SECONDS:
        finding = f"more than {MAX_SECONDS} s"
    return finding or ("more than 1 GiB" if _most_kib() - before_kib > MAX_MORE_KIB else "")


def _most_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise Hang


@click.command()
@click.option("--inputs", default=1_000, help="How many in all; at least one for each reader.")
@click.option("--seed", default=7, show_default=True)
@click.option(
    "--reader", "names", multiple=True, type=click.Choice(sorted(READERS)), help="Which; by default all."
)
@click.option(
    "--kept", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir()) / "fuzz-findings"
)
def fuzz(inputs: int, seed: int, names: tuple[str, ...], kept: Path) -> None:
    """Fuzzes the readers, and ends with 1 where something was found."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _interrupt)
    chosen = names or tuple(READERS)
    findings = []
    for name in chosen:
        begin = time.monotonic()
        count = max(1, inputs // len(chosen))
        with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as scratch:
            found = fuzz_reader(READERS[name](Path(scratch)), count, seed, kept)
        print(
            f"{name}: {count} inputs in {time.monotonic() - begin:.1f} s, {len(found)} findings", flush=True
        )
        findings += found
    print("\n".join(findings))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    fuzz()
