"""One broken distribution costs no other anything, and is named with its path."""

import logging
import os
import sys
import zipfile

import pytest

from lazyflow_core.errors import PluginError
from lazyflow_core.plugins import PluginManager, discovery, version_of

from .conftest import OPERATOR

LINES = "[lazyflow.operators]\nacme.thing = acme_ops:OpPass\n"


def info(folder, name, **files):
    """Write a folder of metadata, with files of these contents, text or bytes."""
    made = folder / name
    made.mkdir(parents=True)
    for file, contents in files.items():
        path = made / {"metadata": "METADATA", "entries": "entry_points.txt", "info": "PKG-INFO"}[file]
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    discovery.forget()
    return made


def about(name="acme", version="1.0"):
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("file", ["METADATA", "entry_points.txt"])
def test_metadata_that_are_a_pipe_are_not_waited_for(good, told, file):
    made = info(good.folder, "acme-1.0.dist-info", metadata=about(), entries=LINES)
    (made / file).unlink()
    os.mkfifo(made / file)
    discovery.forget()
    assert "acme.thing" not in told()[0]
    assert f"its {file} is no ordinary file" in metadata_checks()["metadata of acme"].detail


@pytest.fixture
def told(caplog):
    """What a manager warns of when it is asked for operators."""

    def told():
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            ids = [spec.id for spec in PluginManager().operators()]
        assert "good.pass_on" in ids
        return ids, [record.getMessage() for record in caplog.records]

    return told


def metadata_checks():
    return {c.name: c for c in PluginManager().doctor() if c.name.startswith(("metadata", "copies"))}


BROKEN_METADATA = {
    "missing": (None, "its METADATA is missing or cannot be read"),
    "empty": ("", "its METADATA is missing or cannot be read"),
    "binary": (b"\xff\xfe\x00Name: x", "its METADATA is no UTF-8 text (byte 0)"),
    "without a name": ("Metadata-Version: 2.1\nVersion: 1.0\n", "its METADATA has no Name"),
    "without a version": ("Metadata-Version: 2.1\nName: acme\n", "its METADATA has no Version"),
}


@pytest.mark.parametrize("case", BROKEN_METADATA)
def test_broken_metadata_are_named_and_what_is_offered_can_be_used(good, told, case):
    contents, text = BROKEN_METADATA[case]
    files = {} if contents is None else {"metadata": contents}
    path = info(good.folder, "acme-1.0.dist-info", entries=LINES, **files)
    assert told() == (["acme.thing", "good.pass_on"], [])
    spec = PluginManager().find_operator("acme.thing")
    assert (spec.distribution, spec.version) == ("acme", "1.0")
    check = metadata_checks()["metadata of acme"]
    assert check.ok is False
    # What a missing or empty file gives depends on the version of importlib_metadata.
    says = {text, BROKEN_METADATA["without a name"][1]} if case in ("missing", "empty") else {text}
    assert check.detail in {f"{path}: {one}" for one in says}


def test_entry_points_that_are_no_text_are_told_where_they_may_be_ours_and_noted_where_not(good, told):
    ours = info(good.folder, "acme-1.0.dist-info", entries=LINES.encode() + b"# caf\xe9\n")
    theirs = info(good.folder, "other-2.0.dist-info", entries=b"[console_scripts]\nx = a:b\n# caf\xe9\n")
    ids, warnings = told()
    assert ids == ["good.pass_on"]
    at = len(LINES) + 5
    assert warnings == [
        f"lazyflow: distribution 'acme' ({ours}): its entry_points.txt is no UTF-8 text (byte {at}); "
        "what it offers is unknown; install it again, or remove this folder."
    ]
    checks = metadata_checks()
    assert checks["metadata of acme"].ok is False
    assert checks["metadata of other"].ok is None
    assert str(theirs) in checks["metadata of other"].detail


def test_in_strict_mode_what_hides_operators_is_an_error(good, monkeypatch):
    info(good.folder, "acme-1.0.dist-info", entries=LINES.encode() + b"\xff")
    monkeypatch.setenv("LAZYFLOW_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match=r"distribution 'acme' .* no UTF-8 text"):
        PluginManager().operators()
    assert PluginManager(disable=["acme"]).operators()


def test_a_byte_order_mark_is_read_over_and_noted(good, told):
    info(good.folder, "acme-1.0.dist-info", metadata=about(), entries="\ufeff" + LINES)
    assert told() == (["acme.thing", "good.pass_on"], [])
    check = metadata_checks()["metadata of acme"]
    assert check.ok is None
    assert "begins with a byte order mark" in check.detail


@pytest.mark.parametrize(
    ("text", "complaint", "left"),
    [
        (LINES + "no name at all\n", "has a line 3 that is no 'name = target'", ["acme.thing"]),
        ("acme.thing = a:b\n" + LINES, "has no section before line 1; nothing of it is used", []),
    ],
)
def test_a_line_that_is_no_entry_point_is_told_by_its_number(good, told, text, complaint, left):
    info(good.folder, "acme-1.0.dist-info", metadata=about(), entries=text)
    ids, (warning,) = told()
    assert ids == [*left, "good.pass_on"]
    assert complaint in warning


@pytest.mark.parametrize("value", ["acme_ops:OpPass [gpu]", "acme_ops : OpPass", "acme_ops:OpPass[a,b] "])
def test_spaces_and_extras_of_an_entry_point_are_legal(good, value):
    good.install("acme", modules={"acme_ops": OPERATOR}, operators=[f"acme.thing = {value}"])
    assert PluginManager().get_operator("acme.thing").__name__ == "OpPass"
    assert PluginManager().find_operator("acme.thing").target == "acme_ops:OpPass"


@pytest.mark.parametrize("value", ["", "os.system('x')", "../../x", "a:b:c", "a b"])
def test_a_target_that_names_nothing_is_refused_when_it_is_used(good, value):
    good.install("acme", modules={}, operators=[f"acme.thing = {value}"])
    with pytest.raises(PluginError, match="names nothing that could be imported"):
        PluginManager().get_operator("acme.thing")


def test_control_characters_of_names_are_escaped(good):
    good.install("acme", modules={}, plugins=["evil\x1b[2J = acme_plugin"])
    assert "evil\\x1b[2J" in {plugin.namespace for plugin in PluginManager().plugins()}


@pytest.mark.skipif(os.name == "nt", reason="links need permission there")
def test_links_that_lead_nowhere_are_named(good, told):
    (good.folder / "acme-1.0.dist-info").symlink_to("nowhere")
    other = info(good.folder, "lazyflow_other-1.0.dist-info", metadata=about("lazyflow-other"))
    (other / "entry_points.txt").symlink_to("nowhere")
    ids, (warning,) = told()
    assert ids == ["good.pass_on"]
    assert f"'lazyflow-other' ({other}): its entry_points.txt cannot be read" in warning
    assert "it cannot be read" in metadata_checks()["metadata of acme"].detail


def test_of_several_versions_in_one_folder_the_newest_that_is_whole_is_used(good):
    for version, files in {
        "0.9": {"metadata": about(version="0.9"), "entries": LINES.replace("acme_ops", "old_ops")},
        "0.10": {"metadata": about(version="0.10"), "entries": LINES},
        "2.0": {},
    }.items():
        info(good.folder, f"acme-{version}.dist-info", **files)
    (spec,) = [s for s in PluginManager().operators() if s.id == "acme.thing"]
    assert (spec.version, spec.target) == ("0.10", "acme_ops:OpPass")
    check = metadata_checks()["copies of acme"]
    assert check.detail.startswith(f"0.10 in {good.folder}")
    assert check.hint.startswith(f"remove {good.folder}")


def test_a_stale_copy_that_hides_what_is_offered_is_shown(good, monkeypatch):
    """As an egg-info beside the sources, made before the entry points were written."""
    info(good.folder / "src", "acme.egg-info", info=about(version="0.1"))
    info(good.folder / "site", "acme-1.0.dist-info", metadata=about(), entries=LINES)
    monkeypatch.setattr(sys, "path", [str(good.folder / "src"), *sys.path, str(good.folder / "site")])
    discovery.forget()
    assert [s.id for s in PluginManager().operators()] == ["good.pass_on"]
    assert metadata_checks()["copies of acme"].detail.startswith(f"0.1 in {good.folder / 'src'}")


@pytest.mark.skipif(os.name == "nt", reason="links need permission there")
def test_the_first_folder_on_the_path_is_used_and_a_link_to_it_is_no_copy(good, monkeypatch):
    for place, module in (("lib", "acme_ops"), ("later", "other_ops")):
        text = LINES.replace("acme_ops", module)
        info(good.folder / place, "acme-1.0.dist-info", metadata=about(), entries=text)
    (good.folder / "lib64").symlink_to("lib")
    places = [str(good.folder / name) for name in ("lib64", "later", "lib")]
    monkeypatch.setattr(sys, "path", [*places, *sys.path])
    discovery.forget()
    (spec,) = [s for s in PluginManager().operators() if s.id == "acme.thing"]
    assert spec.target == "acme_ops:OpPass"
    assert metadata_checks()["copies of acme"].detail.count(" in ") == 2


def test_what_pip_left_behind_is_not_used(good, told):
    info(good.folder, "~cme-1.0.dist-info", metadata=about(), entries=LINES)
    assert told() == (["good.pass_on"], [])
    assert metadata_checks()["metadata of ~cme"].hint == "remove this folder"


def test_a_package_in_a_zip_is_found(good, monkeypatch):
    archive = good.folder / "plug.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("acme-1.0.dist-info/METADATA", about())
        file.writestr("acme-1.0.dist-info/entry_points.txt", LINES)
    monkeypatch.setattr(sys, "path", [*sys.path, str(archive)])
    discovery.forget()
    assert "acme.thing" in [s.id for s in PluginManager().operators()]
    assert "metadata of acme" not in metadata_checks()


def test_a_place_on_the_path_that_cannot_be_listed_costs_no_other(good, monkeypatch):
    monkeypatch.setattr(discovery, "_search_path", lambda: ["bad\0path", str(good.folder)])
    monkeypatch.setattr(sys, "path", [b"bytes", *sys.path])
    discovery.forget()
    assert [s.id for s in PluginManager().operators()] == ["good.pass_on"]
    assert metadata_checks()["metadata of bad\\x00path"].ok is None
    assert version_of("acme-good") == "1.0"


def test_the_version_of_what_cannot_be_read_is_that_of_its_folder_or_unknown(good, monkeypatch):
    assert version_of("surely-not-installed") is None
    info(good.folder, "acme-3.0.dist-info", metadata=b"\xff")
    assert version_of("acme") == "3.0"


def test_the_same_class_from_two_distributions_is_no_conflict(good):
    """A folder of metadata that somebody renamed."""
    good.install("acme", modules={"acme_ops": OPERATOR}, operators=["acme.thing = acme_ops:OpPass"])
    info(good.folder, "acme_old-1.0.dist-info", metadata=about(), entries=LINES)
    assert PluginManager().get_operator("acme.thing")


def test_requirements_that_cannot_be_understood_are_noted(good):
    pytest.importorskip("packaging")
    metadata = good.folder / "acme_good-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "Requires-Dist: ???\n")
    (check,) = [c for c in PluginManager().doctor() if c.name == "requirements of acme-good"]
    assert check.ok is None
    assert "InvalidRequirement" in check.detail
