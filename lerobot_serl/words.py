"""Words of others, fit for a line of a log, a terminal, or a file."""


def printable(text: str, most_characters: int | None = None, instead: str = "?") -> str:
    """The text without control characters, which would move the cursor or begin a line of their own.

    Args:
        most_characters: what is longer is cut.
        instead: stands where a character cannot be printed.
    """
    cut = text[:most_characters]
    return cut if cut.isprintable() else "".join(letter if letter.isprintable() else instead for letter in cut)
