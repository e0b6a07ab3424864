"""respress from notebooks and scripts: the calls that the command line makes, too.

import respress

report = respress.compress("resnet50", checkpoint="mine.pth", data="my-images", targets=["onnxruntime"])
print(report.gate.verdict)
for row in report.rows:
    print(row.id, row.accuracy, row.latency_ms)

report = respress.load_report("runs/resnet50-mine+my-images")
"""

from pipeline import __version__
from pipeline.api import compress, load_report, measure
from reports.schema import Report

__all__ = ["Report", "__version__", "compress", "load_report", "measure"]
