"""What documents, comments and docstrings refer to is there: each kind of reference has a rule that says what is broken."""

from tests.references.project import Project, Text
from tests.references.rules import RULES, Broken, broken

__all__ = ["RULES", "Broken", "Project", "Text", "broken"]
