"""One name for one thing: no two classes of the package share a name, nor two modules."""

import ast
from collections import defaultdict
from pathlib import Path

import lerobot_serl

PACKAGE = Path(lerobot_serl.__file__).parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]  # a package's name is its folder's
# LeRobot finds a robot's class in the module that its config's is named after (config_franka.py -> franka.py), and by its type, "franka".
NAMED_BY_LEROBOT = {"franka"}


def twice(named):
    """Names that belong to more than one place."""
    places = defaultdict(list)
    for name, place in named:
        places[name].append(str(place.relative_to(PACKAGE)))
    return {name: found for name, found in places.items() if len(found) > 1}


def classes(path):
    return [node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)]


def test_no_two_classes_share_a_name():
    named = [(name, path) for path in MODULES for name in classes(path)]
    assert len(named) > 200
    assert twice(named) == {}


def test_no_two_modules_or_packages_share_a_name():
    named = [(path.stem, path) for path in MODULES] + [(path.parent.name, path.parent) for path in PACKAGE.rglob("__init__.py")]
    assert len(named) > 200
    assert twice(named).keys() == NAMED_BY_LEROBOT
