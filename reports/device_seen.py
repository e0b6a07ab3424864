"""What report.json says about a device that measured engines over ssh."""

from typing import Any

from pydantic import Field

from measure.verdict import Part


class DeviceSeen(Part):
    """A device that measured engines over ssh. `found` is what it is and has; `before` and `after` are its conditions (clocks,
    temperatures, throttling, free memory, load) around the latencies of each target; `images` of `of` test images were
    predicted. `verified` has the last line of verify.py by engine.
    """

    name: str
    measured: str
    found: dict[str, Any]
    images: int | None = None
    of: int | None = None
    verified: dict[str, str] = Field(default_factory=dict)
    before: dict[str, dict[str, Any]] = Field(default_factory=dict)
    after: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def facts(self) -> dict[str, str]:
        """All of it but the flags of the CPU, as text."""
        found = {key: in_words(value) for key, value in self.found.items() if key not in ("device", "flags")}
        if self.images is not None:
            found["test images"] = f"{self.images:,} of {self.of:,}"
        found |= {f"verify.py of {engine}": line for engine, line in self.verified.items()}
        for target in self.before:
            found[f"before {target}"] = in_words(self.before[target])
            found[f"after {target}"] = in_words(self.after[target])
        return {name: text for name, text in found.items() if text}


def in_words(value: Any) -> str:
    """A value in one line; nothing for what the device does not say."""
    if isinstance(value, dict):
        texts = {str(key).replace("_", " "): in_words(each) for key, each in value.items()}
        return ", ".join(f"{key} {text}" for key, text in texts.items() if text)
    if isinstance(value, list):
        return " ".join(dict.fromkeys(map(in_words, value)))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else "; ".join(str(value).splitlines())
