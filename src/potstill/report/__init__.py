"""Reads run folders and writes what they say: one HTML page, and Markdown for a pull request.

Imports no torch; a report can be made on any machine that has the run folder.
"""

from potstill.report.comparison import Comparison, compare
from potstill.report.writing import ReportFiles, write_report

__all__ = ["Comparison", "ReportFiles", "compare", "write_report"]
