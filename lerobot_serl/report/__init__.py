"""Metric files of a run, and the curves and page drawn from them.

This package needs only the standard library, numpy and (for drawing, imported on use) matplotlib, so a report
can be made on a computer without torch or LeRobot.
"""
