"""The configuration files that come with the project: which there are, for whoever names one that is not there."""

from pathlib import Path

# In a wheel, and in a checkout.
PLACES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


def presets(section: str) -> list[Path]:
    """Files with this section at the top level: ``policy`` for ``lerobot-train``, ``train`` for ``lerobot-serl-run``."""
    directory = next((place for place in PLACES if place.is_dir()), None)
    files = [] if directory is None else sorted(directory.glob("*.yaml"))
    return [path for path in files if f"\n{section}:" in path.read_text(encoding="utf-8")]


def missing_preset(place: str, section: str) -> str | None:
    """One sentence that names those that exist, if ``place`` looks like one and is none; else None."""
    path = Path(place)
    looks_like_one = path.suffix in (".yaml", ".yml") or (len(path.parts) == 1 and not path.suffix)
    if path.exists() or not looks_like_one:
        return None
    here = Path.cwd()
    found = [path.relative_to(here) if path.is_relative_to(here) else path for path in presets(section)]
    return f"--config_path={place}: no such file; there are {', '.join(map(str, found))}."
