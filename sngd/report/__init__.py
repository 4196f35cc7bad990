"""A run as one HTML file: what has come of it, how far it can be believed, pictures, config, how to go on.

The page holds its pictures and its style; it has no script and asks for nothing from elsewhere, which its
content security policy tells browsers to hold it to. It is made from what the run folder holds.

facts.py     config, result and history of a run folder, as far as they can be read
wording.py   what they amount to, in words
fields.py    the config's fields, those apart that differ from their defaults
page.py      facts → HTML by page.html, which escapes all that it is given
"""

from sngd.report.page import REPORT, write_report

__all__ = ["REPORT", "write_report"]
