"""Hashes of code: comments and docstrings do not count, everything that runs does, in imported modules, too."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core import digest

MODULE = '''"""A module."""
from core import helper_of_test
from core.helper_of_test import SIZE

# a comment
def stage(config, out):
    """What it does."""
    return {"size": SIZE + 1}
'''
HELPER = '''"""A helper."""
SIZE = 1

class Named:
    """A class."""
'''
SAME = {
    "comment": (MODULE.replace("# a comment", "# another comment"), HELPER),
    "docstring of a function": (MODULE.replace("What it does.", "What it does now."), HELPER),
    "docstring of a module": (MODULE, HELPER.replace("A helper.", "One helper,\n\nand more.")),
    "docstring of a class": (MODULE, HELPER.replace("A class.", "The class.")),
    "no docstring": (MODULE.replace('    """What it does."""\n', ""), HELPER),
    "layout": (MODULE.replace("SIZE + 1", "(\n        SIZE +  1\n    )"), HELPER + "\n\n"),
}
DIFFERENT = {
    "constant": (MODULE.replace("+ 1", "+ 2"), HELPER),
    "operator": (MODULE.replace("+ 1", "- 1"), HELPER),
    "string that is no docstring": (MODULE.replace('"size":', '"sizes":'), HELPER),
    "statement": (MODULE.replace("    return", "    out.mkdir()\n    return"), HELPER),
    "argument": (MODULE.replace("config, out", "config, out, more=None"), HELPER),
    "helper": (MODULE, HELPER.replace("SIZE = 1", "SIZE = 2")),
    "helper of the helper": (MODULE, HELPER + "\nimport core.config\n"),
}


@pytest.fixture
def digest_of_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """`digest_of_sources(module, helper)`: the code digest of a stage's module that imports a helper, of these sources."""
    monkeypatch.setattr(digest, "PROJECT", tmp_path)
    (tmp_path / "core").mkdir()
    (tmp_path / "core/config.py").write_text("FROZEN = True")

    def of(module: str, helper: str) -> str:
        digest.code_of.cache_clear()
        (tmp_path / "core/stage_of_test.py").write_text(module)
        (tmp_path / "core/helper_of_test.py").write_text(helper)
        return str(digest.code_digest.__wrapped__("core.stage_of_test"))

    return of


@pytest.mark.parametrize("change", SAME)
def test_comments_docstrings_and_layout_do_not_change_the_key(
    digest_of_sources: Callable[[str, str], str], change: str
) -> None:
    assert SAME[change] != (MODULE, HELPER)
    assert digest_of_sources(*SAME[change]) == digest_of_sources(MODULE, HELPER)


@pytest.mark.parametrize("change", DIFFERENT)
def test_changed_code_changes_the_key(digest_of_sources: Callable[[str, str], str], change: str) -> None:
    assert digest_of_sources(*DIFFERENT[change]) != digest_of_sources(MODULE, HELPER)


def test_the_digest_covers_what_a_real_stage_imports_and_nothing_else() -> None:
    names = set(digest.modules_of("calibration.observe"))
    assert {"calibration.observe", "calibration.ranges", "core.hardware", "data.loader", "core.config"} <= names
    assert not {"core.cache", "export.targets", "reports.rows", "pipeline.page"} & names
