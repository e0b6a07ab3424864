"""The command `measure` of the command line. It imports what it runs inside its function, like all of them."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import options
from pipeline.tell import tell_run


def measure(
    out: Annotated[Path, typer.Argument(help="folder of a finished run")],
    device: Annotated[str, typer.Argument(help="an entry of devices.toml, an alias of ssh, or ssh://user@host:port")],
    device_images: options.DeviceImages = None,
    device_keep: options.DeviceKeep = False,
    again: options.Again = None,
) -> None:
    """Measure what ships in OUT on DEVICE over ssh: accuracy, latency, memory. The rows of the device are judged, too."""
    from pipeline import api

    report = api.measure(out, device, device_images=device_images, device_keep=device_keep, again=again)
    raise typer.Exit(tell_run(report, out, [device]))
