"""What is borrowed from LeRobot: by which names, from where; and what is said where LeRobot is another one."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import lerobot_serl
from lerobot_serl import lerobot_names

PACKAGE = Path(lerobot_serl.__file__).parent
ROOT = PACKAGE.parent
NAMES_FILE = PACKAGE / "lerobot_names.py"
# Packages whose __all__ says what is public, and which 0.7 does not replace; and the one module of names alone.
PUBLIC = {
    f"lerobot.{part}"
    for part in ("cameras", "configs", "datasets", "envs", "optim", "policies", "processor", "rewards", "robots", "teleoperators", "utils")
}
CONSTANTS = "lerobot.utils.constants"
SOURCES = {str(path.relative_to(ROOT)): path for path in sorted(PACKAGE.rglob("*.py")) if path != NAMES_FILE}


def borrowed_by(path):
    """Pairs (module of LeRobot, name) of a file's imports; the name is empty for ``import lerobot.robots``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "lerobot")
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "lerobot":
            yield from ((node.module, alias.name) for alias in node.names)


def taken_from_us(path):
    """Names that a file takes from lerobot_names.py."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[-1] == "lerobot_names":
            yield from (alias.name for alias in node.names)


def test_what_is_not_public_is_borrowed_in_one_place():
    public = {module: {*import_module(module).__all__, ""} for module in PUBLIC} | {"lerobot": {""}}
    wrong = [
        (name, module, item)
        for name, path in SOURCES.items()
        for module, item in borrowed_by(path)
        if module != CONSTANTS and item not in public.get(module, ())
    ]
    assert wrong == [], "put these into lerobot_serl/lerobot_names.py"


def test_what_is_borrowed_is_used_and_found_in_this_lerobot():
    used = {name for path in SOURCES.values() for name in taken_from_us(path)}
    assert used == set(lerobot_names._MODULE_OF)
    assert len(used) == sum(map(len, lerobot_names.BORROWED.values()))
    for module, names in lerobot_names.BORROWED.items():
        for name in names:
            value = getattr(lerobot_names, name)
            assert value is (getattr(import_module(module), name, None) or sys.modules[f"{module}.{name}"])
    with pytest.raises(AttributeError, match="lerobot_names' has no attribute 'train'"):
        lerobot_names.train  # noqa: B018


def test_no_package_that_lists_its_names_is_borrowed_from():
    public = {(module, name) for module in PUBLIC for name in import_module(module).__all__}
    assert public & {(module, name) for module, names in lerobot_names.BORROWED.items() for name in names} == set()


def test_the_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == [f"lerobot[training,hilserl]>={lerobot_names.OLDEST},<{lerobot_names.TOO_NEW}"]


@pytest.mark.parametrize(("version", "supported"), [
    ("0.6.1", True), ("0.6.2", True), ("0.6.12.dev3+g1234abc", True), ("0.6.1.post1", True), ("0.6.0", False), ("0.5.9", False),
    ("0.7", False), ("0.7.0", False), ("0.7.0rc1", False), ("1.0", False), ("0.10.0", False),
])  # fmt: skip
def test_which_versions_are_taken(monkeypatch, version, supported):
    monkeypatch.setattr(lerobot_names.metadata, "version", lambda name: {"lerobot": version}[name])
    if supported:
        lerobot_names._check()
    else:
        with pytest.raises(
            SystemExit, match=rf"LeRobot {re.escape(version)} is installed here\. .*pip install 'lerobot\[.*\]>=0.6.1,<0.7'"
        ):
            lerobot_names._check()


def test_a_lerobot_without_a_version_is_taken(monkeypatch):
    def missing(name):
        raise lerobot_names.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(lerobot_names.metadata, "version", missing)
    lerobot_names._check()


@pytest.fixture
def on_0_7(tmp_path):
    """``run(code, *arguments)`` in a process for which LeRobot 0.7.0 is installed."""
    (tmp_path / "lerobot-0.7.0.dist-info").mkdir()
    (tmp_path / "lerobot-0.7.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lerobot\nVersion: 0.7.0\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "HF_HUB_OFFLINE": "1"}

    def run(code, *arguments):
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300, env=environment)

    return run


SENTENCE = "lerobot_serl works with LeRobot 0.6.1 up to, not including, 0.7; LeRobot 0.7.0 is installed here."
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


@pytest.mark.parametrize("place", [*COMMANDS.values(), "lerobot_serl:SerlSacConfig"])
def test_each_command_says_it_in_a_sentence(on_0_7, tmp_path, place):
    (tmp_path / "lerobot").mkdir()
    (tmp_path / "lerobot" / "__init__.py").write_text("raise RuntimeError('nothing of it can be imported')")
    module, _, function = place.partition(":")
    done = on_0_7(f"import sys\nfrom {module} import {function}\nsys.exit({function}())", "--help")  # as pip's script does
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(SENTENCE)
    assert done.stderr.count("\n") == 1


REGISTER = """
import sys
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
print("goes on", sorted({"lerobot_serl", "lerobot_policy_serl_sac"} & set(sys.modules)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["policy", "robot", "checkpoint", "other"])
def test_lerobots_commands_end_with_it_if_they_ask_for_the_plugin_and_else_go_on(on_0_7, tmp_path, kind):
    for name in ("serl_sac", "act"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"type": "{name}"}}')
    flag = {
        "policy": "--policy.type=serl_sac", "robot": "--robot.type=bi_franka_sim", "checkpoint": f"--policy.path={tmp_path / 'serl_sac'}",
        "other": f"--policy.path={tmp_path / 'act'}",
    }[kind]  # fmt: skip
    done = on_0_7(REGISTER, "--dataset.repo_id=you/pick", flag)
    assert "Traceback" not in done.stderr
    assert done.stderr.count(SENTENCE) == 1
    if kind == "other":
        assert (done.returncode, done.stdout) == (0, "goes on ['lerobot_policy_serl_sac']\n")
        assert f"serl_sac is left out: {SENTENCE}" in done.stderr
    else:
        assert (done.returncode, done.stdout) == (1, "")
