"""Who may import whom, and who alone may do what: docs/design.md's picture as a table."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_MODULE = 500  # lines

BOTTOM = {"errors", "model", "clock", "machine", "fold", "fold_pushes", "fold_publications"}
MIDDLE = {
    *{"contract", "config", "disk", "journal", "files", "checkpoints", "containers", "opcodes"},
    *{"archives", "delivery", "names", "symbols", "tensors"},
    *{"transfer", "kernel", "leaks", "quota", "report"},
}
# What each module of the controller may import of the controller; a star stands for a package.
MAY_IMPORT = {
    "errors": set(),
    "clock": set(),
    "model": set(),
    "machine": {"errors", "model"},
    "contract": {"errors"},
    "config": {"contract", "errors", "model"},
    "fold": {"fold_publications", "fold_pushes", "machine", "model"},
    "fold_publications": {"machine", "model"},
    "fold_pushes": {"machine"},
    "journal": {"clock", "disk", "errors", "fold", "machine"},
    "disk": set(),
    "names": {"errors"},
    "delivery": {"disk"},
    "files": {"delivery", "disk", "errors", "names"},
    "tensors": {"errors"},
    "symbols": {"errors", "tensors"},
    "opcodes": {"errors", "symbols", "tensors"},
    "archives": {"errors", "opcodes", "tensors"},
    "containers": {"archives", "contract", "errors", "tensors"},
    "checkpoints": {"archives", "containers", "contract", "errors", "files", "model", "names"}
    | {"tensors"},
    "leaks": set(),
    "kernel": {"config", "contract", "errors", "leaks", "machine"},
    "quota": {"model"},
    "report": {"machine", "model", "quota"},
    "transfer": {"kaggle.port"},
    "kaggle": set(),
    "kaggle.port": {"model"},
    "kaggle.client": {"kaggle.login"},
    "kaggle.login": set(),
    "kaggle.worker": {"kaggle.client"},
    "kaggle.child": {"leaks"},
    "kaggle.credentials": {"errors", "kaggle.child"},
    "kaggle.api": {"kaggle.child", "kaggle.port", "leaks", "model", "transfer"},
    "phases": set(),
    "phases.*": BOTTOM | MIDDLE | {"kaggle.port", "phases.*"},
    "engine": BOTTOM | MIDDLE | {"kaggle.port", "phases.*"},
    "cli": {"errors", "cli.*"},
    "cli.*": BOTTOM
    | MIDDLE
    | {"engine", "kaggle.api", "kaggle.child", "kaggle.credentials", "kaggle.port"}
    | {"cli", "cli.*", "emulator.*"},
    "__main__": {"cli"},
    "emulator": set(),
    "emulator.*": {"emulator", "emulator.*"},
}
# Packages that are not ours: who may import them, at the top or inside a function.
ONLY_IN = {
    "kaggle": {"kaggle.client"},
    "kagglesdk": {"kaggle.client", "kaggle.login"},
    "sqlite3": {"journal"},
    "pydantic": {"config", "cli.local_settings", "emulator.catalogue"},
    "jsonschema_rs": {"contract"},
    "requests": {"transfer", "kaggle.worker"},
    "urllib3": {"transfer"},
    "click": {"cli", "cli.*"},
    "rich": {"cli.*"},
    "filelock": {"cli.*"},
    "starlette": {"emulator.*"},
    "uvicorn": {"emulator.*"},
    "papermill": {"emulator.*"},
    "subprocess": {"kaggle.child", "emulator.*", "cli.*"},
    "socket": {"emulator.*"},
}
NOWHERE = {"torch", "pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "unittest", "mock"}
KERNEL_MAY_IMPORT = {
    *{"numpy", "torch", "transformers", "datasets", "tokenizers"},
    "huggingface_hub",  # comes with datasets
}
LOCAL_TIME = {"astimezone", "localtime", "mktime", "ctime", "asctime", "timetuple", "tzset"}
PURE = {"__future__", "collections", "dataclasses", "enum", "typing"}


def modules_of(folder, prefix=""):
    """Every module below a folder: its dotted name below the package, and its syntax tree."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[prefix + name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


CONTROLLER = modules_of(ROOT / "orchestrator")
KERNEL = modules_of(ROOT / "kernel_template")
CLIENT_SIDE = {name: tree for name, tree in CONTROLLER.items() if not name.startswith("emulator")}
parametrized = pytest.mark.parametrize("name", CONTROLLER)


def imports_of(tree):
    """The full names that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports_of(tree):
    """The modules of the controller that a module imports."""
    for full in imports_of(tree):
        if full.partition(".")[0] != "orchestrator":
            continue
        name = full.partition(".")[2]
        while name and name not in CONTROLLER:
            name = name.rpartition(".")[0]
        if name:
            yield name


def foreign_imports_of(tree):
    """The top-level packages that a module imports, other than ours."""
    return {full.partition(".")[0] for full in imports_of(tree)} - {"orchestrator"}


def is_among(name, allowed):
    return name in allowed or any(
        pattern.endswith(".*") and name.startswith(pattern[:-1]) for pattern in allowed
    )


def rule_for(name):
    if name in MAY_IMPORT:
        return MAY_IMPORT[name]
    rows = [row for row in MAY_IMPORT if row.endswith(".*") and is_among(name, {row})]
    return MAY_IMPORT[rows[0]] if rows else None


def test_every_module_stands_in_the_table_and_every_row_is_needed():
    assert [name for name in CONTROLLER if rule_for(name) is None] == []
    rows = [row for row in MAY_IMPORT if not any(is_among(name, {row}) for name in CONTROLLER)]
    assert rows == []


@parametrized
def test_a_module_imports_only_what_its_row_allows(name):
    allowed = rule_for(name)

    assert [used for used in own_imports_of(CONTROLLER[name]) if not is_among(used, allowed)] == []


@parametrized
def test_a_package_is_used_only_where_it_belongs(name):
    used = foreign_imports_of(CONTROLLER[name])

    assert [p for p in used if p in ONLY_IN and not is_among(name, ONLY_IN[p])] == []


@pytest.mark.parametrize("name", CLIENT_SIDE)
def test_nothing_of_the_controller_unpickles_or_needs_torch(name):
    assert foreign_imports_of(CLIENT_SIDE[name]) & NOWHERE == set()


@pytest.mark.parametrize("name", sorted(BOTTOM - {"clock"}))
def test_the_bottom_does_no_input_or_output_and_reads_no_clock(name):
    assert foreign_imports_of(CONTROLLER[name]) <= PURE


@pytest.mark.parametrize("name", ["world", "kernels", "datasets", "quota", "records", "settings"])
def test_local_kaggles_rules_do_no_input_or_output_and_read_no_clock(name):
    tree = CONTROLLER[f"emulator.{name}"]
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert foreign_imports_of(tree) <= PURE | {"itertools", "random", "re", "unicodedata"}
    assert not {"open", "print", "input"} & called


@parametrized
def test_local_time_is_only_for_showing(name):
    named = {node.attr for node in ast.walk(CONTROLLER[name]) if isinstance(node, ast.Attribute)}

    assert named & LOCAL_TIME == set() or name == "cli.display"


@parametrized
def test_nobody_imports_the_kernel(name):
    assert "kernel_template" not in foreign_imports_of(CONTROLLER[name])


@pytest.mark.parametrize("name", KERNEL)
def test_the_kernel_imports_what_every_session_has_and_itself(name):
    allowed = KERNEL_MAY_IMPORT | set(KERNEL) | set(sys.stdlib_module_names)

    assert {full.partition(".")[0] for full in imports_of(KERNEL[name])} <= allowed


def uses(tree, *names):
    """Whether a module names one of these dotted names."""
    wanted = {tuple(name.split(".")) for name in names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in wanted:
                return True
        elif isinstance(node, ast.ImportFrom):
            if any((node.module, alias.name) in wanted for alias in node.names):
                return True
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            return True
    return False


def test_only_the_configuration_reads_the_environment():
    readers = {
        name
        for name, tree in CLIENT_SIDE.items()
        if uses(tree, "os.environ", "os.environb", "os.getenv", "os.putenv")
    }

    assert readers == {"config"}


def test_only_the_command_line_prints():
    printers = {name for name, tree in CONTROLLER.items() if uses(tree, "print", "input")}

    assert {name for name in printers if not name.startswith("cli")} == set()


def test_below_the_command_line_only_the_clock_reads_the_time_and_sleeps():
    readers = {
        name
        for name, tree in CLIENT_SIDE.items()
        if not name.startswith("cli")
        and uses(tree, "time.time", "time.sleep", "datetime.utcnow", "date.today")
    }

    assert readers == {"clock"}


def test_old_versions_of_a_dataset_are_never_deleted():
    found = []
    for name, tree in CLIENT_SIDE.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "delete_old_versions":
                found.append(name)
            if isinstance(node, ast.Assign) and "delete_old_versions" in ast.unparse(node):
                assert ast.unparse(node.value) == "False"

    assert found == ["kaggle.client"]


def test_nothing_is_mocked():
    folders = ("orchestrator", "kernel_template", "tests", "benchmarks", "examples", "docs")
    trees = {
        f"{folder}/{name}": tree
        for folder in folders
        for name, tree in modules_of(ROOT / folder).items()
    }

    assert len(trees) > 60
    assert [
        name for name, tree in trees.items() if foreign_imports_of(tree) & {"unittest", "mock"}
    ] == []


def test_modules_stay_short_and_say_what_they_are_for():
    for folder in ("orchestrator", "kernel_template"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= LONGEST_MODULE, path
            assert not text or ast.get_docstring(ast.parse(text)), path


def test_driving_a_chain_loads_neither_torch_nor_the_client():
    unwanted = {"torch", "transformers", "datasets", "kaggle", "kagglesdk", "papermill", "numpy"}
    code = (
        "import sys, orchestrator.engine, orchestrator.kaggle.api, orchestrator.cli.run;"
        f"print(sorted({unwanted!r} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.strip() == "[]"
