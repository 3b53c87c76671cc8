"""Which module may import which, read from the source, and what LeRobot sees of the installed plugin."""

import ast
import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

import lerobot_serl

PACKAGE = Path(lerobot_serl.__file__).parent
NAME = PACKAGE.name
LEARNER_SIDE = ("policy", "online", "actor", "run", "scripts")


def module_name(path):
    parts = (NAME, *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def absolute(node, importer):
    """Names that an import statement asks for, absolute; ``from x import y`` asks for ``x.y`` where that is a module, else ``x``."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = importer.split(".") if MODULES[importer].name == "__init__.py" else importer.split(".")[:-1]
        package = package[: len(package) - node.level + 1]
        base = ".".join([*package, *([base] if base else [])])
    return [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(importer, everywhere=True):
    """Modules that ``importer`` imports; with ``everywhere`` also inside functions and for type checking, else when it is loaded."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield from absolute(child, importer)
            elif everywhere or not (is_type_checking(child) or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                yield from walk(child)

    return set(walk(ast.parse(MODULES[importer].read_text(encoding="utf-8"))))


def ours(importer):
    """Our own modules that ``importer`` imports, anywhere in its source, without the package's name; LeRobot's names are for all to take."""
    names = {name.removeprefix(f"{NAME}.") for name in imports(importer) if name == NAME or name.startswith(f"{NAME}.")}
    return names - {"lerobot_names"}


def within(name, *parts):
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def members(part):
    return [name for name in MODULES if within(name, f"{NAME}.{part}")]


def test_the_walk_sees_every_module_and_every_kind_of_import():
    assert len(MODULES) > 40
    assert ours(f"{NAME}.replay.memory") == {
        "replay.random_shift",
        "replay.window_columns",
        "replay.episode_table",
        "replay.lazy_frames",
        "replay.batch",
        "replay.episode",
    }  # from .memory import
    assert "sac" in ours(f"{NAME}.replay.window_columns")  # from ..sac import
    assert "sac" in ours(f"{NAME}.policy.agent")  # from .. import sac
    assert "online.learner" in ours(f"{NAME}.policy.modeling_serl_sac")  # inside a function and for type checking
    assert f"{NAME}.online.learner" not in imports(f"{NAME}.policy.modeling_serl_sac", everywhere=False)
    assert "report.metrics_files" in ours(f"{NAME}.report.page")  # absolute
    assert {name for module in MODULES for name in ours(module)} <= {name.removeprefix(f"{NAME}.") for name in MODULES} | {NAME}


def test_sac_and_batch_stand_alone():
    assert ours(f"{NAME}.sac") == set()
    assert ours(f"{NAME}.replay.batch") == set()
    assert ours(f"{NAME}.replay.lazy_frames") == set()


# part -> what of ours its modules may import
ALLOWED = {
    "lerobot_names": (),
    "words": (),
    "message_header": ("words",),
    "setting_error": (),
    "label_settings": ("setting_error",),
    "key_names": (),
    "grasp": (),
    "finite": (),
    "stock_hardware": (),
    "transport": ("message_header",),
    "access_token": (),
    "tls": (),
    "rejection_log": ("words",),
    "secure_channel": ("access_token", "tls", "transport"),
    "base": ("base", "networks", "execution", "replay.frame_columns", "replay.lazy_frames", "message_header", "words"),
    "execution": (),
    "networks": ("networks", "sac"),
    "replay": ("replay", "sac", "finite", "transport", "child_process", "owned_lock", "words", "label_settings"),
    "child_process": (),
    "replay.memory": ("replay", "sac"),
    "replay.sampler": ("replay.memory", "replay.batch"),
    "presets": (),
    "checkpoint": ("checkpoint", "message_header", "words"),
    "doctor": ("doctor", "checkpoint", "message_header", "replay", "owned_lock", "words"),
    "report": ("report",),
    "policy.validation": (),
    "policy.step_clock": (),
    "policy.bounds": ("policy.validation",),
    "policy.network_table": (),
    "policy.adam": (),
    "policy.network_optimizers": ("policy.network_table", "policy.adam"),
    "policy.parts": ("policy.bounds", "policy.validation", "setting_error"),
}


@pytest.mark.parametrize("part", ALLOWED)
def test_parts_import_only_what_lies_below_them(part):
    assert members(part)
    wrong = {m: name for m in members(part) for name in ours(m) if not within(name, *ALLOWED[part])}
    assert wrong == {}


FORBIDDEN = {
    "replay": (*LEARNER_SIDE, "doctor"),
    "doctor": LEARNER_SIDE,
    "actor": ("online", "run", "scripts", "report"),
    "online": ("actor", "run", "scripts"),
    "policy": ("actor", "run", "scripts", "envs", "report"),
    "envs": ("networks", "policy", "replay", "online", "actor", "run", "scripts", "sac"),
    "robots": ("networks", "policy", "replay", "online", "actor", "run", "scripts", "sac", "teleoperators"),
    "teleoperators": ("networks", "policy", "replay", "online", "actor", "run", "scripts", "sac"),
    "franka": ("networks", "policy", "replay", "online", "actor", "run", "scripts", "sac", "robots", "teleoperators"),
    "run": ("policy", "online", "actor", "networks", "replay", "envs"),
}


@pytest.mark.parametrize("part", FORBIDDEN)
def test_parts_keep_away_from_others(part):
    assert members(part)
    wrong = {m: name for m in members(part) for name in ours(m) if within(name, *FORBIDDEN[part])}
    assert wrong == {}


def test_nothing_imports_the_commands():
    wrong = {m for m in MODULES if not within(m, f"{NAME}.scripts") for name in ours(m) if within(name, "scripts")}
    assert wrong == set()


def test_modules_do_not_import_each_other_in_circles():
    """While they are loaded; the learner inside the policy is imported when training begins."""
    graph = {
        m: {name for name in imports(m, everywhere=False) if name in MODULES} - {m} for m in MODULES if MODULES[m].name != "__init__.py"
    }
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for name in graph.get(module, ()):
                visit(name, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    assert done == set(graph) | {name for names in graph.values() for name in names}


def test_the_distribution_has_the_name_that_lerobot_looks_for():
    names = [found.metadata["Name"] for found in distributions()]
    assert names.count("lerobot_policy_serl_sac") == 1
    assert [name for name in names if name and name.lower().replace("-", "_") == "lerobot_policy_serl_sac"] == ["lerobot_policy_serl_sac"]


@pytest.mark.slow
@pytest.mark.fresh_python
def test_a_plain_import_is_light_and_discovery_registers_the_types(tmp_path):
    """In a process of its own, as in any ``lerobot-*`` command."""
    code = """
import json, logging, sys
records = []
class Keep(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())
logging.getLogger().addHandler(Keep(level=logging.ERROR))
import lerobot.configs, lerobot.envs, lerobot.optim
before = set(sys.modules)
import lerobot_serl
heavy = ("grpc", "mujoco", "matplotlib", "franky")
loaded = [name for name in heavy if name in sys.modules]
ours = sorted(name for name in sys.modules if name.startswith("lerobot_serl"))
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
from lerobot.configs import PreTrainedConfig
from lerobot.envs import EnvConfig
from lerobot.optim import OptimizerConfig
from lerobot.policies.factory import get_policy_class
print(json.dumps({
    "loaded": loaded,
    "ours": ours,
    "shim": "lerobot_policy_serl_sac" in sys.modules,
    "policy": PreTrainedConfig.get_choice_class("serl_sac").__name__,
    "env": EnvConfig.get_choice_class("franka_sim").__name__,
    "optimizer": OptimizerConfig.get_choice_class("per_network_adam").__name__,
    "class": get_policy_class("serl_sac").__name__,
    "errors": [text for text in records if "lerobot_policy_serl_sac" in text],
}))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["loaded"] == []
    assert f"{NAME}.policy.configuration_serl_sac" in found["ours"]
    later = [f"{NAME}.{part}" for part in ("base", "networks", "replay", "online", "actor", "run", "report")]
    assert [name for name in found["ours"] if within(name, *later)] == []
    assert found["shim"]
    assert (found["policy"], found["env"], found["optimizer"]) == ("SerlSacConfig", "FrankaSimEnv", "StepClockConfig")
    assert found["class"] == "SerlSacPolicy"
    assert found["errors"] == []
