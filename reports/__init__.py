"""What stages left on disk -> rows -> report.json, report.md, report.html."""
