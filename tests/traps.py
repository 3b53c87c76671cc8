"""A working directory in which nothing may be run."""

from pathlib import Path


def lay_traps(directory: Path) -> Path:
    """Files in a working directory with the names of modules, one of Python's own among them; whoever runs one leaves the returned mark."""
    mark = directory / "trapped"
    for name in ("secrets", "h2", "datasets", "lerobot_serl"):
        (directory / f"{name}.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).write_text({name!r})\n")
    return mark
