"""`lazyflow operators`, `plugins`, `doctor`: what is installed, broken things included."""

import json

import pytest


@pytest.fixture
def broken(install_distribution):
    """A distribution whose plugin module does not import."""
    install_distribution(
        "acme",
        "[lazyflow.plugins]\nacme = acme.plugin\n[lazyflow.operators]\nacme.noise = acme.plugin:OpNoise\n",
        {"plugin": "import a_module_that_is_not_there\n"},
    )


@pytest.fixture
def conflicting(install_distribution):
    """A distribution that offers an operator which another one offers too."""
    install_distribution(
        "rival", "[lazyflow.operators]\ntest.scale = rival.operators:OpScale\n", {"operators": ""}
    )


def test_operators_are_listed_with_who_offers_them(lazyflow):
    lines = lazyflow("operators").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "test.broken",
        "test.fail",
        "test.gate",
        "test.read",
        "test.remove",
        "test.scale",
        "test.stuck",
    ]
    assert lines[3].split() == ["test.read", "lazyflow-of-tests", "1.0", "lazyflow_of_tests.operators:OpRead"]


def test_the_list_can_be_of_one_namespace(lazyflow, broken):
    assert [
        line.split()[0] for line in lazyflow("operators", "list", "--ns", "acme").stdout.splitlines()
    ] == ["acme.noise"]
    assert lazyflow("operators", "list", "--ns", "acne").stdout == (
        "No operators of the namespace 'acne' are installed.\n"
    )


def test_the_list_for_programs_has_a_version(lazyflow):
    data = json.loads(lazyflow("operators", "list", "--json").stdout)
    assert data["version"] == 1
    assert data["operators"][-2] == {
        "id": "test.scale",
        "distribution": "lazyflow-of-tests",
        "version": "1.0",
        "target": "lazyflow_of_tests.operators:OpScale",
        "conflict": False,
    }


def test_a_long_list_says_what_operators_do_and_which_are_broken(lazyflow):
    result = lazyflow("operators", "list", "--long")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "could not be imported: ModuleNotFoundError" in lines[0]
    assert lines[-2].endswith("Multiply with a number.")


def test_an_id_that_two_distributions_offer_is_marked(lazyflow, conflicting):
    result = lazyflow("operators")
    assert [line[0] for line in result.stdout.splitlines() if "test.scale" in line] == ["!", "!"]
    assert result.stderr == (
        "! is offered by two distributions; choose with LAZYFLOW_PREFER=ID=DISTRIBUTION.\n"
    )


def test_an_operator_that_two_distributions_offer_is_refused_with_both(lazyflow, conflicting):
    result = lazyflow("operators", "show", "test.scale")
    assert (result.exit_code, result.stderr) == (
        3,
        "lazyflow: operator id 'test.scale' is provided by two distributions:\n"
        "    lazyflow-of-tests 1.0   lazyflow_of_tests.operators:OpScale\n"
        "    rival 1.0               rival.operators:OpScale\n"
        "  choose one:  LAZYFLOW_PREFER=test.scale=rival   or uninstall the other.\n",
    )
    told = [line for line in lazyflow("doctor").stdout.splitlines() if "test.scale" in line]
    assert [line.split()[0] for line in told if "namespace" not in line] == ["BROKEN"]


def test_without_plugins_the_list_says_what_to_install(lazyflow):
    assert lazyflow("--only-plugins", "", "operators").stdout == (
        "No operators are installed. Try: pip install lazyflow-ops-filters lazyflow-ops-io\n"
    )


def test_an_operator_is_shown_with_its_slots(lazyflow):
    result = lazyflow("operators", "show", "test.scale")
    assert result.exit_code == 0, result.stderr
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["input", "image", "array;", "what", "to", "multiply"] in words
    assert ["parameter", "factor", "float,", "default", "2.0"] in words
    assert ["output", "output", "array"] in words
    assert 'operator = "test.scale"\n  image = "volume.output"' in result.stdout
    assert lazyflow("operators", "show", "scale").stdout == result.stdout


def test_an_unknown_operator_gets_near_misses(lazyflow):
    result = lazyflow("operators", "show", "test.scal")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "lazyflow: no operator 'test.scal'; did you mean 'test.scale' or 'test.fail' or 'test.stuck'?\n"
    )


def test_a_broken_operator_is_a_plugin_error(lazyflow):
    result = lazyflow("operators", "show", "test.broken")
    assert result.exit_code == 3
    assert result.stderr.startswith("lazyflow: operator 'test.broken' (lazyflow-of-tests 1.0, ")


def test_plugins_are_listed_broken_ones_too(lazyflow, broken):
    result = lazyflow("plugins")
    assert (result.exit_code, result.stderr) == (0, "")
    states = {line.split()[0]: line.split()[3] for line in result.stdout.splitlines()}
    assert states["test"] == "loaded"
    assert states["acme"] == "broken"
    assert "No module named 'a_module_that_is_not_there'" in result.stdout


def test_a_broken_plugin_is_shown_with_its_traceback(lazyflow, broken):
    for name in ("acme", "plugins/show"):
        result = lazyflow("plugins", "show", name)
        if name == "acme":
            assert result.exit_code == 0
            assert "operators: acme.noise" in result.stdout
            assert "Traceback (most recent call last):" in result.stdout


def test_plugins_can_be_listed_by_the_hooks_they_implement(lazyflow, broken):
    listed = json.loads(lazyflow("plugins", "list", "--hook", "lazyflow_writer_specs", "--json").stdout)
    assert [(entry["name"], entry["hooks"]) for entry in listed["plugins"]] == [
        ("test", ["lazyflow_writer_specs"])
    ]
    assert lazyflow("plugins", "list", "--hook", "lazyflow_configure").stdout == (
        "No plugin implements lazyflow_configure.\n"
    )
    wrong = lazyflow("plugins", "list", "--hook", "lazyflow_writer_spec")
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "lazyflow: no hook 'lazyflow_writer_spec'; did you mean 'lazyflow_writer_specs'?\n",
    )
    assert "  hooks: lazyflow_writer_specs\n" in lazyflow("plugins", "show", "test").stdout


def test_a_broken_plugin_can_be_made_an_error(lazyflow, broken, monkeypatch):
    monkeypatch.setenv("LAZYFLOW_STRICT_PLUGINS", "")
    result = lazyflow("--strict-plugins", "readers", "explain", __file__)
    assert (result.exit_code, result.stderr) == (
        3,
        "lazyflow: plugin 'acme' (acme 1.0) was not loaded: "
        "ModuleNotFoundError: No module named 'a_module_that_is_not_there'\n",
    )


def test_an_unknown_plugin_gets_near_misses(lazyflow, broken):
    result = lazyflow("plugins", "show", "acne")
    assert (result.exit_code, result.stderr) == (2, "lazyflow: no plugin 'acne'; did you mean 'acme'?\n")


def test_a_broken_plugin_harms_no_run(lazyflow, broken, folder):
    assert lazyflow("run", "p.toml").exit_code == 0


@pytest.mark.parametrize("option", [("--no-plugin", "test"), ("--only-plugins", "cli")])
def test_plugins_can_be_left_out(lazyflow, option):
    result = lazyflow(*option, "operators", "show", "test.scale")
    assert result.exit_code == 2
    assert "no installed distribution provides the namespace 'test'" in result.stderr


def test_a_plugin_that_is_left_out_under_a_wrong_name_is_told(lazyflow, caplog):
    result = lazyflow("--no-plugin", "tset", "operators", "list", "--json")
    assert result.exit_code == 0
    assert "names 'tset', which is not installed; did you mean 'test'?" in caplog.text


def test_version_lists_plugins(lazyflow):
    lines = lazyflow("--version").stdout.splitlines()
    assert lines[0].startswith("lazyflow-core 0.")
    assert "  lazyflow-of-tests 1.0" in lines


def test_doctor_says_what_is_broken(lazyflow, broken):
    result = lazyflow("doctor")
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith("BROKEN")]
    assert any("operator test.broken" in line for line in lines)
    assert any("plugin acme" in line and "a_module_that_is_not_there" in line for line in lines)


def test_doctor_speaks_json(lazyflow):
    checks = json.loads(lazyflow("doctor", "--json").stdout)["checks"]
    assert {"name", "ok", "detail", "hint"} == set(checks[0])
    assert checks[0]["name"] == "python"


def test_a_plugin_may_add_commands_while_it_is_enabled(lazyflow, install_distribution, monkeypatch):
    install_distribution(
        "tool",
        "[lazyflow.plugins]\ntool = tool.plugin\n",
        {
            "plugin": "import click\n"
            "from lazyflow_core.plugins import hookimpl\n"
            "LAZYFLOW_API = (1, 0)\n"
            "@hookimpl\n"
            "def lazyflow_cli_commands(group):\n"
            "    @group.command('tool')\n"
            "    def tool():\n"
            "        click.echo('at work')\n"
        },
    )
    assert lazyflow("tool").stdout == "at work\n"
    assert lazyflow("plugins", "list", "--hook", "lazyflow_cli_commands").stdout.split()[0] == "tool"
    assert "  commands: tool\n" in lazyflow("plugins", "show", "tool").stdout
    assert "lazyflow plugins list --hook lazyflow_cli_commands" in " ".join(lazyflow("--help").stdout.split())
    monkeypatch.setenv("LAZYFLOW_PLUGINS", "test,cli")
    assert "no command 'tool'" in lazyflow("tool").stderr


WIDE = '''
from lazyflow_core import InputSlot, Operator, OutputSlot, ParameterSlot

class OpBase(Operator):
    """What all of these have.

    Inputs
    ------
    image : InputSlot
        Explained once.
    """

    image = InputSlot(doc="what to look at")

class OpWide(OpBase):
    """Do much.

    All else as in `OpBase`.
    """

    many = ParameterSlot(tuple, default=tuple(range(500)), doc="words " * 30)
    output = OutputSlot()
'''


def test_what_is_shown_of_an_operator_is_wrapped_and_says_what_its_base_says(lazyflow, install_distribution):
    entry_points = "[lazyflow.operators]\nwide.one = wide_of_tests.operators:OpWide\n"
    install_distribution("wide_of_tests", entry_points, {"operators": WIDE})
    result = lazyflow("operators", "show", "wide.one")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert "  input      image   array; what to look at" in lines
    assert "OpBase: What all of these have." in lines
    assert "    Explained once." in lines


@pytest.mark.parametrize("arguments", [[], ["readers"]])
def test_a_bare_command_or_group_prints_its_help(lazyflow, arguments):
    bare, helped = lazyflow(*arguments), lazyflow(*arguments, "--help")
    assert (bare.exit_code, bare.stderr) == (0, "")
    assert bare.stdout.rstrip() == helped.stdout.rstrip()
    assert bare.stdout.startswith("Usage: lazyflow ")


def test_a_pipeline_that_is_the_name_of_an_operator_suggests_its_id(lazyflow, folder):
    for arguments in (["run", "scale"], ["run", "scael", "--out", "a.npy"]):
        result = lazyflow(*arguments)
        assert (result.exit_code, result.stderr) == (
            2,
            f"lazyflow: there is no pipeline file {arguments[1]!r}; did you mean 'test.scale'?\n",
        )
    assert "no such file" in lazyflow("run", "nothing_like_it").stderr
