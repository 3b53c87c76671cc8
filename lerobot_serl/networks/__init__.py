"""Networks: pure modules, tensors in, tensors out. Nothing here knows of datasets, LeRobot's loop or the losses."""
