"""Finds references in documents, comments and docstrings that lead nowhere; each kind has a
rule.
"""

from tests.house.references import metrics, settings
from tests.house.references.project import Project, Text
from tests.house.references.rules import RULES, Broken, broken

__all__ = ["RULES", "Broken", "Project", "Text", "broken", "metrics", "settings"]
