"""The files of the stages -> rows -> report.json, report.md, report.html."""
