"""Tests of `pickles` and `unpickling`."""

import contextlib
import datetime
import io
import os
import pathlib
import pickle
import sys
import tracemalloc
import types
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sls.models.checkpoints.pickles import read_pickle
from sls.models.checkpoints.unpickling import Unpickler


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.args


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Any], Path]:
    """Saves in today's format of PyTorch, and in the one before 1.6."""

    def write(content: Any) -> Path:
        torch.save(content, tmp_path / "file.pt", _use_new_zipfile_serialization=request.param)
        return tmp_path / "file.pt"

    return write


def test_tensors_and_plain_values_come_back(save: Callable[[Any], Path]) -> None:
    content = {
        "a": torch.arange(6.0).view(2, 3).T,
        "b": [1, "x", None, 2.5, True],
        "c": {"d": torch.tensor(3)},
        "version": torch.__version__,
    }
    found = read_pickle(save(content))
    assert torch.equal(found["a"], content["a"])
    assert found["b"] == content["b"]
    assert found["c"]["d"] == 3
    assert found["version"] == str(torch.__version__)


def test_a_namespace_comes_back_as_a_dictionary(save: Callable[[Any], Path]) -> None:
    assert read_pickle(save({"args": Namespace(arch="wav2vec2", sub=Namespace(x=1))})) == {
        "args": {"arch": "wav2vec2", "sub": {"x": 1}}
    }


def test_omegaconf_comes_back_as_plain_values(save: Callable[[Any], Path]) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    plain = {"model": {"layers": 3, "dropout": 0.1, "name": None, "temp": [2.0, 0.5], "on": True}}
    assert read_pickle(save({"cfg": omegaconf.OmegaConf.create(plain)})) == {"cfg": plain}


@pytest.fixture
def absent_class(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of fairseq that is not installed where the file is read."""
    module = types.ModuleType("fairseq.some.meters")

    class Meter:
        def __init__(self) -> None:
            self.value = 3

        def __setstate__(self, state: Any) -> None:
            raise AssertionError("ran code of the file's class")

    Meter.__module__, Meter.__qualname__ = module.__name__, "Meter"
    module.Meter = Meter  # type: ignore[attr-defined]
    for name in ("fairseq", "fairseq.some", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    return Meter


def test_classes_of_fairseq_are_read_without_loading_them(
    save: Callable[[Any], Path], absent_class: type
) -> None:
    assert read_pickle(save({"meter": absent_class()})) == {"meter": {"value": 3}}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (eval, "builtins.eval"),
        (getattr, "builtins.getattr"),
        (torch.hub.load_state_dict_from_url, "torch.hub.load_state_dict_from_url"),
    ],
)
def test_what_would_run_code_is_refused_by_name_and_does_not_run(
    save: Callable[[Any], Path], tmp_path: Path, function: Callable[..., Any], name: str
) -> None:
    path = save({"model": {}, "cfg": Bomb(function, f"touch {tmp_path}/ran")})
    with pytest.raises(ValueError, match=f"file.pt: .*found {name}, expected"):
        read_pickle(path)
    assert not (tmp_path / "ran").exists()


def test_all_refused_names_are_listed(save: Callable[[Any], Path]) -> None:
    with pytest.raises(ValueError, match="builtins.eval, posix.system"):
        read_pickle(save([Bomb(os.system, "true"), Bomb(eval, "1")]))


def test_of_very_many_refused_names_some_are_listed(tmp_path: Path) -> None:
    pickled = b"\x80\x02](" + b"".join(b"cos\nname%d\n" % number for number in range(5_000)) + b"e."
    with pytest.raises(ValueError, match=r"os\.name0, .* and 4988 more") as caught:
        read_pickle(write_archive(tmp_path / "file.pt", pickled))
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize("tensor", [torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j]).conj().imag])
def test_a_tensor_that_is_stored_with_another_sign_is_not_read_without_it(
    save: Callable[[Any], Path], tensor: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match=r"file.pt: .*conjugated"):
        read_pickle(save({"a": tensor}))


def test_keys_of_several_parts_come_back(save: Callable[[Any], Path]) -> None:
    content = {(1, "a"): 1, 2.5: 2, None: 3, b"x": 4, True: 5}
    assert read_pickle(save(content)) == content


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(pickle.dumps(Bomb(os.system, f"touch {tmp_path}/ran"), protocol=2))
    with pytest.raises(ValueError, match=r"file.pt: "):
        read_pickle(path)
    assert not (tmp_path / "ran").exists()


PROTOCOLS = [(protocol, is_zip) for protocol in (2, 3, 4, 5) for is_zip in (True, False)]


@pytest.mark.parametrize(("protocol", "is_zip"), PROTOCOLS)
def test_every_protocol_is_read_alike(tmp_path: Path, protocol: int, is_zip: bool) -> None:
    shared = torch.arange(5.0)
    content = {
        "state": OrderedDict({f"module.layer.{i}.weight": torch.rand(3, i + 1) for i in range(300)}),
        "again": {f"module.layer.{i}.weight": i for i in range(300)},
        "views": [shared, shared[2:], torch.nn.Parameter(shared)],
        "plain": {
            "a": 1,
            "b": "\u00e4\n" * 200,
            "c": (True, None, 2.5, -7, 1 << 80),
            "d": [b"x", b"y" * 300],
        },
        "best": np.float64(0.25),
        "half": torch.tensor([0.5], dtype=torch.float16),
        "args": Namespace(lr=1e-6),
    }
    path = tmp_path / "file.pt"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    found = read_pickle(path)
    assert list(found["state"]) == list(content["state"])
    assert all(torch.equal(found["state"][name], tensor) for name, tensor in content["state"].items())
    assert found["again"] == content["again"]
    assert [tensor.tolist() for tensor in found["views"]] == [[0, 1, 2, 3, 4], [2, 3, 4], [0, 1, 2, 3, 4]]
    assert (found["plain"]["a"], found["plain"]["b"]) == (1, "\u00e4\n" * 200)
    assert found["plain"]["c"] == [True, None, 2.5, -7, 1 << 80]
    assert found["plain"]["d"] == [b"x", b"y" * 300]
    assert found["half"].dtype == torch.float16
    assert found["args"] == {"lr": 1e-6}


@pytest.mark.parametrize(("protocol", "is_zip"), PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "posix.system"), (eval, "builtins.eval"), (getattr, "builtins.getattr")],
)
def test_code_is_refused_by_name_in_every_protocol(
    tmp_path: Path, protocol: int, is_zip: bool, function: Callable[..., Any], name: str
) -> None:
    path = tmp_path / "file.pt"
    bomb = {"a": torch.zeros(3), "b": Bomb(function, f"touch {tmp_path}/ran")}
    torch.save(bomb, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=rf"file.pt: .*found {name}, expected"):
        read_pickle(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x04\x8c\x02os\x94K\x01\x93.",  # a name that is a number
        b"\x80\x04\x93.",  # no name at all
        b"\x80\x04\x8c\x05os\nab\x8c\x06system\x93.",  # two lines in a name
        b"\x80\x04\x8c\x02os\x94(\x8c\x06system\x93.",  # something between
        # A text of a MiB, and a call that would copy it, a hundred times.
        b"\x80\x02c_codecs\nencode\nX\x00\x00\x10\x00"
        + bytes(1 << 20)
        + b"\x85q\x01"
        + b"Rc_codecs\nencode\nh\x01" * 100
        + b"R.",
    ],
)
def test_a_pickle_that_hides_a_name_or_swells_is_refused(pickled: bytes) -> None:
    with pytest.raises((ValueError, IndexError, pickle.UnpicklingError)):
        Unpickler(io.BytesIO(pickled), set()).load()


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"(ios\nsystem\n.", id="INST"),
        pytest.param(b"(cbuiltins\nobject\no.", id="OBJ"),
        pytest.param(b"\x82\x01.", id="EXT1"),
        pytest.param(b"Pkey\n.", id="PERSID"),
        pytest.param(b"\x80\x05\x97.", id="NEXT_BUFFER"),
        pytest.param(b"\x80\x05N\x98.", id="READONLY_BUFFER"),
        pytest.param(b"\xff.", id="none"),
    ],
)
def test_an_instruction_that_no_file_of_weights_needs_is_refused(pickled: bytes) -> None:
    with pytest.raises(ValueError, match="instruction"):
        Unpickler(io.BytesIO(pickled), set()).load()


@pytest.mark.parametrize("kind", [pathlib.PurePosixPath("x"), datetime.date(2024, 1, 1), np.zeros(2)])
def test_a_refusal_does_not_call_code_what_is_none(save: Callable[[Any], Path], kind: Any) -> None:
    with pytest.raises(ValueError, match=r"file.pt: .*found [\w., ]+, expected tensors") as caught:
        read_pickle(save({"state_dict": {"a": torch.zeros(1)}, "other": kind}))
    assert "run code" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_a_cut_file_is_refused_in_one_line(save: Callable[[Any], Path], keep: float) -> None:
    path = save({"a": torch.zeros(500), "b": torch.ones(500)})
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=r"file.pt: not a whole") as caught:
        read_pickle(path)
    assert "\n" not in str(caught.value)


def test_an_object_inside_itself_ends(save: Callable[[Any], Path]) -> None:
    namespace = Namespace(x=1)
    namespace.itself = namespace
    assert read_pickle(save({"args": namespace}))["args"]["x"] == 1


def test_what_is_shared_many_times_is_read_once(save: Callable[[Any], Path]) -> None:
    value: list[Any] = [1]
    for _ in range(60):
        value = [value, value]  # 2 ** 60 leaves, were they copied
    found = read_pickle(save({"value": value}))["value"]
    assert found[0] is found[1]


def test_a_flipped_bit_in_a_weight_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.save({"a": torch.arange(500.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(500.0).numpy().tobytes()) + 999] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"file.pt: .*data/0 .*damaged"):
        read_pickle(path)


def test_a_file_that_was_saved_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(5.0)}, tmp_path / "file.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_pickle(tmp_path / "file.pt")["a"].tolist() == [0, 1, 2, 3, 4]


def write_archive(
    path: Path, pickled: bytes, numbers: bytes = b"", compression: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", numbers)
    return path


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"file.pt: .*compressed"):
        read_pickle(write_archive(tmp_path / "file.pt", b"\x80\x02}.", bytes(10**6), zipfile.ZIP_DEFLATED))


STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x05tQ"


def told_tensor(offset: int, size: int, stride: int, storage: bytes = STORAGE) -> bytes:
    """The pickle of a tensor over stored numbers."""
    numbers = [b"\x8a\x08" + value.to_bytes(8, "little", signed=True) for value in (offset, size, stride)]
    rest = numbers[0] + numbers[1] + b"\x85" + numbers[2] + b"\x85\x89}tR."
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + storage + rest


def test_a_tensor_as_it_is_told_is_made(tmp_path: Path) -> None:
    numbers = torch.arange(5.0).numpy().tobytes()
    path = write_archive(tmp_path / "file.pt", told_tensor(1, 2, 2), numbers)
    assert read_pickle(path).tolist() == [1, 3]


@pytest.mark.parametrize(
    "told",
    [
        told_tensor(0, 10**12, 0),  # one number as often as one likes
        told_tensor(0, 6, 1),
        told_tensor(4, 2, 1),
        told_tensor(-1, 2, 1),
        told_tensor(0, -2, 1),
        told_tensor(0, 2, -1),
        told_tensor(0, 2, 1, STORAGE.replace(b"K\x05", b"J\xff\xff\xff\x7f")),  # more than is stored
        told_tensor(0, 2, 1, STORAGE.replace(b"K\x05", b"J\xff\xff\xff\xff")),
        told_tensor(0, 2, 1, STORAGE.replace(b"0X", b"7X")),  # a key that is not there
        told_tensor(0, 2, 1, b"(N"),
    ],
)
def test_a_tensor_beyond_what_is_stored_is_refused(tmp_path: Path, told: bytes) -> None:
    with pytest.raises(ValueError, match=r"file.pt: not a whole"):
        read_pickle(write_archive(tmp_path / "file.pt", told, bytes(20)))


LONG_NUMBER = b"\x8a\x7c" + b"\x7f" * 124
MANY_ITEMS = b"".join(b"J" + number.to_bytes(4, "little") + b"N" for number in range(9_000))


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x02\x85R",
        b"cbuiltins\nbytes\n\x8a\x05\x00\x00\x00\x00\x02\x85R",
        b"cbuiltins\nrange\n\x8a\x05\x00\x00\x00\x00\x02\x85R",
        b"ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x02\x85R",
        b"ctorch\nUntypedStorage\n\x8a\x05\x00\x00\x00\x00\x02\x85R",
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n\x8a\x05\x00\x00\x00\x00\x02\x85\x85\x89tR",
        b"cnumpy\ndtype\nX\x0b\x00\x00\x00V1000000000\x85R",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x0f",  # a bytearray as long as that
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x0f",  # bytes
        b"Nr\xff\xff\xff\xff",  # kept at a place as far as that
        b"]" * 50_000 + b"a" * 49_999,
        b"})" + b"\x85" * 300_000 + b"K\x01s",  # a key so deep that to hash it ends Python
        b"})" + b"2\x86" * 60 + b"K\x01s",  # one of 2 ** 60 leaves
        b"ccollections\nOrderedDict\n])" + b"2\x86" * 60 + b"K\x01\x86a\x85R",
        STORAGE.replace(b"X\x01\x00\x00\x000", b")" + b"2\x86" * 60),
        STORAGE.replace(b"X\x07\x00\x00\x00storage", b")" + b"2\x86" * 60),
        # A shape of many lengths, the product of which has millions of digits.
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00(" + LONG_NUMBER * 100_000 + b"t)\x89}tR",
        # Attributes beside slots, taken together for one object after the other.
        b"}q\x01("
        + MANY_ITEMS
        + b"u0Nh\x01\x86q\x02cargparse\nNamespace\nq\x03]("
        + b"h\x03)Rh\x02b" * 9_000
        + b"e",
        # A long name, put together again and again.
        b"X\x20\xa1\x07\x00" + b"a" * 500_000 + b"q\x01](" + b"h\x01h\x01\x93" * 40_000 + b"e",
    ],
    ids=lambda call: repr(call[:12]),
)
def test_what_a_pickle_asks_for_is_bounded_by_its_length(tmp_path: Path, call: bytes) -> None:
    path = write_archive(tmp_path / "file.pt", b"\x80\x02" + call + b".")
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):
            read_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
    finally:
        tracemalloc.stop()
