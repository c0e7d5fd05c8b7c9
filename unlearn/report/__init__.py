"""What a run found, for people: a page for one run, tables for several, and a few lines for the terminal."""

from unlearn.report.comparison import write_comparison
from unlearn.report.single import write_report
from unlearn.report.terminal import score_table

__all__ = ["score_table", "write_comparison", "write_report"]
