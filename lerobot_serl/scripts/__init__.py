"""Command-line entry points: they parse flags and delegate, and contain no logic of their own."""
