import io
import json
import random
import zipfile

import numpy as np
import pytest
from forests import random_forest
from lazyflow_core.errors import FormatError, LazyflowError, StorageError, TargetExistsError

from lazyflow_ops_learning import load_forest, save_forest


@pytest.fixture(params=[True, False], ids=["pure", "shares"])
def forest(request):
    return random_forest(np.random.default_rng(4), pure=request.param)


def test_a_forest_comes_back_from_its_file(forest, tmp_path):
    path = tmp_path / "a.forest.npz"
    save_forest(forest, path)
    assert load_forest(path) == forest
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with np.load(path, allow_pickle=False) as archive:  # anybody can look into it
        assert json.loads(archive["header"].tobytes())["format"] == "lazyflow.forest"


def test_a_file_is_replaced_only_where_that_was_said(forest, tmp_path):
    path = tmp_path / "a.forest.npz"
    path.write_bytes(b"mine")
    with pytest.raises(TargetExistsError, match="overwrite"):
        save_forest(forest, path)
    assert path.read_bytes() == b"mine"
    save_forest(forest, path, overwrite=True)
    assert load_forest(path) == forest


def test_what_cannot_be_written_leaves_nothing(forest, tmp_path):
    with pytest.raises(StorageError, match="cannot be written"):
        save_forest(forest, tmp_path / "none" / "a.npz")
    strange = type(forest)(**parts(forest), about={"what": object()})
    with pytest.raises(StorageError, match="cannot be written"):
        save_forest(strange, tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def parts(forest):
    names = ("threshold", "feature", "child", "roots", "leaf", "class_names", "feature_names")
    return {name: getattr(forest, name) for name in names}


def rewritten(forest, tmp_path, **changes):
    """The file of a forest with other arrays, or with other keys in its header."""
    path = tmp_path / "a.npz"
    save_forest(forest, path)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes()) | changes.pop("header", {})
    arrays |= changes | {"header": np.frombuffer(json.dumps(header).encode(), "u1")}
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"header": {"format": "other"}}, "is no forest file"),
        ({"header": {"version": 2}}, "version 2 of the format; this program knows 1"),
        ({"header": {"classes": [1, 2]}}, "classes are no list of texts"),
        ({"header": {"features": "abc"}}, "features are no list of texts"),
        ({"header": {"about": []}}, "no table"),
        ({"header": {"digest": "00"}}, "not those it was written with"),
        ({"child": None}, "has no 'child'"),
        ({"threshold": np.zeros(3)}, "one threshold, feature and child per node"),
        ({"leaf": np.array(["x"])}, "which no forest has"),
        ({"roots": np.zeros((1, 1, 1))}, "which no forest has"),
    ],
)
def test_a_damaged_file_is_told_by_its_name(changes, sentence, forest, tmp_path):
    with pytest.raises(FormatError, match=rf"a\.npz.*{sentence}"):
        load_forest(rewritten(forest, tmp_path, **changes))


def test_a_pickle_in_a_file_is_not_run(forest, tmp_path):
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return open, (str(canary), "w")

    path = tmp_path / "a.npz"
    save_forest(forest, path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"leaf": np.array([Bomb()], dtype=object)})
    with pytest.raises(FormatError):
        load_forest(path)
    assert not canary.exists()


def test_a_file_that_claims_more_than_it_can_hold_is_refused(forest, tmp_path):
    path = tmp_path / "a.npz"
    save_forest(forest, path)
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    for data in (head.getvalue(), head.getvalue() + bytes(100)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                archive.writestr(name, data if name == "threshold.npy" else content)
        with pytest.raises(FormatError, match="damaged"):
            load_forest(path)
    raw = path.read_bytes()
    at = raw.rindex(b"threshold.npy") - 46  # its entry in the directory: the size stands at byte 24
    forged = raw[: at + 24] + (2**31).to_bytes(4, "little") + raw[at + 28 :]
    path.write_bytes(forged)
    with pytest.raises(FormatError, match=r"claims 2\.0 GiB"):
        load_forest(path)


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(StorageError, match="is a folder, not a file"):
        load_forest(tmp_path)
    with pytest.raises(StorageError, match="does not exist"):
        load_forest(tmp_path / "none.npz")
    (tmp_path / "pointer").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(StorageError, match="'git lfs pull' fetches it"):
        load_forest(tmp_path / "pointer")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(FormatError, match="no forest file"):
        load_forest(tmp_path / "text")


def test_mutants_end_as_a_forest_or_as_our_error(forest, tmp_path):
    path = tmp_path / "a.npz"
    save_forest(forest, path)
    original = path.read_bytes()
    chance = random.Random(1)
    outcomes = set()
    for _ in range(150):
        data = bytearray(original)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            outcomes.add(load_forest(path) == forest)
        except LazyflowError:
            outcomes.add(None)
    assert None in outcomes
    assert False not in outcomes
