"""Reading the files of a LeRobot checkpoint of unknown origin: nothing in them is believed, imported or run."""
