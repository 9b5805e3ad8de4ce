"""Reads run folders and writes what they say: one HTML page, and Markdown for a pull request.

Imports no torch; a report can be made on any machine that has the run folder.
"""

from potstill.report.comparison import Comparison, compare
from potstill.report.markdown import squeezed_markdown
from potstill.report.squeezed import Squeezed, squeezed_of
from potstill.report.writing import ReportFiles, write_report

__all__ = [
    "Comparison",
    "ReportFiles",
    "Squeezed",
    "compare",
    "squeezed_markdown",
    "squeezed_of",
    "write_report",
]
