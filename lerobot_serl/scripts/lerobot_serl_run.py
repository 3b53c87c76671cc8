"""`lerobot-serl-run --config_path=FILE`: learner and actor on this machine, one live view."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lerobot_serl.run.recipe import RecipeError, load_recipe
from lerobot_serl.run.supervisor import supervise


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    command = argparse.ArgumentParser(
        prog="lerobot-serl-run",
        description=__doc__,
        epilog="Overrides: --output_dir=DIR, --train.KEY=VALUE (flags of lerobot-train), --actor.KEY=VALUE (flags of lerobot-serl-actor).",
    )
    command.add_argument("--config_path", type=Path, required=True, help="YAML with output_dir, train and actor; see configs/")
    known, overrides = command.parse_known_args(argv)
    try:
        recipe = load_recipe(known.config_path, overrides)
    except RecipeError as error:
        print(error, file=sys.stderr)
        return 1
    return supervise(recipe, recipe.output_dir.with_name(f"{recipe.output_dir.name}_logs"))


if __name__ == "__main__":
    sys.exit(main())
