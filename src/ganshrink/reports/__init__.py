"""One self-contained HTML page about a run, made from the files of its directory alone."""

from ganshrink.reports.files import directions
from ganshrink.reports.page import write_report

__all__ = ["directions", "write_report"]
