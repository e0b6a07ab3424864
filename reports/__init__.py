"""What stages left on disk -> rows -> gate -> report.json, report.md, report.html."""
