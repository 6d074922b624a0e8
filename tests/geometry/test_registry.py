"""Geometries by name: registration, options, entry points, plug-in files."""

import importlib.metadata
import types
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest

import colgraph as cg
from colgraph.geometry import describe_geometries, load_plugin, registry
from colgraph.geometry.options import check_options

PLUGIN = '''
"""A plug-in."""
import numpy as np
import colgraph as cg

@cg.register_geometry("{name}")
def line(columns: int = 5, gap: float = 1.0) -> cg.Geometry:
    """A line."""
    return cg.Geometry(gap * np.arange(columns)[:, None])

def broken():
    return 3

def failing():
    return 1 / 0
'''


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry._registry, "_known", dict(registry._registry._known))


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "my_geometry.py"
    path.write_text(PLUGIN.format(name="plugin_line"))
    return path


def two_columns() -> cg.Geometry:
    """Two columns.

    And a second line.
    """
    return cg.Geometry([[0.0], [1.0]])


def test_builtins_are_listed():
    names = cg.list_geometries()
    assert names == sorted(names)
    assert {"cortex", "grid", "hexagonal", "ring", "sphere", "stack", "torus"} <= set(names)


def test_register_and_call():
    assert cg.register_geometry("two")(two_columns) is two_columns
    assert "two" in cg.list_geometries()
    g = cg.geometry("two")
    assert g.num_columns == 2
    assert g.name == "two"


def test_a_name_taken_twice_names_both_places():
    cg.register_geometry("two")(two_columns)
    cg.register_geometry("two")(two_columns)

    def other():
        return two_columns()

    with pytest.raises(ValueError, match="registered twice") as error:
        cg.register_geometry("two")(other)
    assert str(error.value).count("test_registry.py:") == 2
    with pytest.raises(ValueError, match=r"builtin\.py:\d+ and at .*test_registry\.py:\d+"):
        cg.register_geometry("grid")(other)
    assert cg.geometry("grid").num_columns == 1024


def test_two_functions_of_one_name_inside_a_function_are_two():
    def make(columns):
        if columns == 1:

            def inner():
                return cg.Geometry([[0.0]])
        else:

            def inner():
                return cg.Geometry([[0.0], [1.0]])

        return inner

    cg.register_geometry("inner")(make(1))
    cg.register_geometry("inner")(make(1))
    with pytest.raises(ValueError, match="registered twice"):
        cg.register_geometry("inner")(make(2))


def test_a_notebook_cell_may_run_twice():
    source = "def cell():\n    return None\n"
    for number in (1, 2):
        space = {"__name__": "__main__"}
        exec(compile(source, f"<ipython-input-{number}>", "exec"), space)
        cg.register_geometry("cell")(space["cell"])
    assert registry.find_geometry("cell") is space["cell"]


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a:b", "2d", 3, two_columns])
def test_names_are_words(name):
    with pytest.raises(ValueError, match="made of letters"):
        cg.register_geometry(name)


def test_only_functions_are_registered():
    with pytest.raises(ValueError, match="goes above a function"):
        cg.register_geometry("seven")(7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cg.geometry("spere"), "did you mean 'sphere'"),
        (lambda: cg.geometry(""), "unknown geometry ''"),
        (lambda: cg.geometry("sphere", subdivision=3), "did you mean 'subdivisions'.*radius: float = 1.0"),
        (lambda: cg.geometry("sphere", subdivisions="3"), "must be int, got '3'"),
        (lambda: cg.geometry("sphere", subdivisions=True), "must be int"),
        (lambda: cg.geometry("sphere", radius="big"), "must be float"),
        (lambda: cg.geometry("stack", widths=8), r"must be Sequence\[int\]"),
        (lambda: cg.geometry("stack", widths="88"), r"must be Sequence\[int\]"),
        (lambda: cg.geometry("stack", widths=[8, 8.5]), r"must be Sequence\[int\]"),
        (lambda: cg.geometry("stack", direction="foward"), "unknown direction 'foward': did you mean 'forward'"),
        (lambda: cg.geometry("grid", shape=(3,)), r"must be tuple\[int, int\]"),
        (lambda: cg.geometry(cg.geometry("grid"), shape=(3, 3)), "takes no options"),
    ],
)
def test_wrong_names_and_options(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_numpy_scalars_reach_a_geometry_as_plain_values():
    same = cg.geometry("stack", widths=np.array([3, 2]), direction=np.str_("forward"), layer_distance=np.float32(2))
    assert same.positions.tolist() == cg.geometry("stack", widths=[3, 2], direction="forward").positions.tolist()


def test_options_of_any_annotation():
    def function(
        needed: int,
        maybe: float | None = None,
        words: Sequence[str] = ("a",),
        mode: Literal["a", 1] = "a",
        free=None,
        unknown: "NotImported" = None,  # noqa: F821
    ): ...

    # One annotation that cannot be resolved leaves only the names to be checked.
    check_options("f", function, {"needed": "x"})
    del function.__annotations__["unknown"]
    check_options("f", function, {"needed": np.int64(3), "maybe": None, "words": ["b"], "mode": 1, "free": object()})
    for options, message in [
        ({}, "needs option 'needed'"),
        ({"needed": 1, "maybe": "x"}, "'maybe' must be float, got 'x'"),
        ({"needed": 1, "words": [1]}, "'words' must be a list of names"),
        ({"needed": 1, "mode": True}, "unknown mode True"),
        ({"needed": 1, "wrods": ["b"]}, "did you mean 'words'"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_options("f", function, options)
    check_options("g", lambda **anything: None, {"whatever": 1})


def test_describe_geometries_shows_types_defaults_and_first_line():
    cg.register_geometry("two")(two_columns)
    infos = {info.name: info for info in describe_geometries()}
    assert infos["two"].summary == "Two columns."
    assert str(infos["two"]) == "two()"
    options = {option.name: option for option in infos["stack"].options}
    assert options["layer_distance"].type == "float"
    assert options["layer_distance"].default == "2.0"
    assert options["direction"].type == "'both' | 'forward' | 'forward+lateral'"
    assert "builtin.py:" in infos["stack"].place
    assert all(info.summary for info in infos.values())


class Entry:
    """An entry point as an installed package declares it."""

    def __init__(self, name, value, load):
        self.name, self.value, self.load = name, value, load
        self.dist = types.SimpleNamespace(name="package-of-" + value.split(":")[0])


def with_entries(monkeypatch, *entries):
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **kw: list(entries) if kw.get("group") == "colgraph.geometries" else real(**kw),
    )


def test_entry_points_are_listed_unloaded_and_loaded_on_use(monkeypatch):
    loaded = []

    def load():
        loaded.append(True)
        return two_columns

    with_entries(monkeypatch, Entry("installed", "mod:two", load))
    assert "installed" in cg.list_geometries()
    assert not loaded
    assert cg.geometry("installed").num_columns == 2
    assert cg.geometry("installed").num_columns == 2
    assert loaded


def test_entry_points_that_clash_or_break(monkeypatch):
    def fail():
        raise RuntimeError("no\nluck")

    with_entries(monkeypatch, Entry("bad", "mod:bad", fail), Entry("grid", "mod:two", lambda: two_columns))
    with pytest.raises(ValueError, match=r"'bad' of mod:bad .*RuntimeError: no luck"):
        cg.geometry("bad")
    with pytest.raises(ValueError, match="'grid' is registered twice"):
        cg.geometry("grid")
    summaries = {info.name: info.summary for info in describe_geometries()}
    assert summaries["bad"].startswith("cannot be loaded")
    with_entries(monkeypatch, Entry("x", "one:f", fail), Entry("x", "two:f", fail))
    with pytest.raises(ValueError, match=r"one:f \(package-of-one\) and as two:f \(package-of-two\)"):
        cg.list_geometries()


def test_plugin_file_by_function_and_by_registered_name(plugin):
    g = cg.geometry(f"{plugin}:line", columns=7)
    assert g.num_columns == 7
    assert g.name == "line"
    assert "plugin_line" in cg.list_geometries()
    assert cg.geometry("plugin_line").num_columns == 5
    assert cg.geometry(f"{plugin}:plugin_line").num_columns == 5
    sheet = cg.build_sheet(f"{plugin}:line", neighbors="knn:2", gap=2.0)
    assert sheet.spacing == 2.0


def test_plugin_file_may_be_edited_and_loaded_again(plugin):
    load_plugin(f"{plugin}:line")
    plugin.write_text(
        "# one more line\n" + PLUGIN.format(name="plugin_line").replace("columns: int = 5", "columns: int = 9")
    )
    assert cg.geometry(f"{plugin}:line").num_columns == 9


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{p}:lin", "has no function 'lin': did you mean 'line'"),
        ("{p}:broken", "returned int, not a Geometry"),
        ("{p}:failing", "failed: ZeroDivisionError: division by zero"),
        ("{p}", "without a function in it: write .*my_geometry.py:function"),
        ("{p}:", "without a function in it"),
        ("missing.py:line", "'missing.py' does not exist"),
    ],
)
def test_plugin_errors(plugin, spec, message):
    with pytest.raises(ValueError, match=message) as error:
        cg.geometry(spec.format(p=plugin))
    assert "\n" not in str(error.value)


def test_plugin_files_that_do_not_run(tmp_path):
    for name, text, message in [
        ("syntax.py", "def (", "SyntaxError"),
        ("exits.py", "import sys; sys.exit(3)", "SystemExit"),
        ("takes.py", PLUGIN.format(name="grid"), "registered twice"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=f"{name}' failed to run: .*{message}"):
            load_plugin(f"{tmp_path / name}:line")
    with pytest.raises(ValueError, match=r"file\.py:function"):
        load_plugin("nonsense")
