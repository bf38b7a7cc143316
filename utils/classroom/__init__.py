"""The instructor's edition: ``make classroom`` writes it to ``build/classroom``."""

from utils.classroom.grading import write_assignments
from utils.classroom.slides import write_slides
from utils.classroom.timetable import timetable

__all__ = ["timetable", "write_assignments", "write_slides"]
