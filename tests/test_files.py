"""Files written whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sls.files import file_digest, write_whole


def test_a_digest_is_sha_256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a").startswith("ba7816bf")


def test_a_block_that_fails_writes_nothing(tmp_path: Path) -> None:
    def write(fail: Callable[[], None]) -> None:
        with write_whole(tmp_path / "new" / "a") as temporary:
            temporary.write_text("half")
            fail()

    with pytest.raises(ZeroDivisionError):
        write(lambda: 1 // 0)  # type: ignore[arg-type,return-value]
    assert not list((tmp_path / "new").iterdir())
    write(lambda: None)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]
