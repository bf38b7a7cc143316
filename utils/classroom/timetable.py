"""Timetables for a day, a week and six weeks, from the times that the lessons themselves tell."""

from collections.abc import Sequence
from math import ceil, inf

from utils.contents import Lesson, in_quarters

# What one day can hold: what federated learning is, and what it does not protect; then the same
# for a language model. Each needs only those before it.
ONE_DAY = ("Part01/L1", "Part01/L2", "Part01/L4", "Part02/L2", "Part02/L3", "Part02/L4")
BEGIN, LUNCH, BREAK = 9 * 60, 60, 10  # minutes after midnight, and minutes
NOON = 12 * 60


def minutes_of(lesson: Lesson) -> int:
    """Minutes that a lesson takes in class: study and running, rounded up to five.

    Raises:
        ValueError: if the lesson does not say how long it takes to study.
    """
    if lesson.study is None:
        raise ValueError(f"{lesson.path} has no study time in its line **Time**")
    return 5 * ceil((lesson.study + lesson.running) / 5)


def split(lessons: Sequence[Lesson], parts: int) -> list[list[Lesson]]:
    """Lessons in their order, in so many parts, the longest of which is as short as can be.

    Args:
        lessons: at least as many as there are parts.
        parts: at least 1.

    Raises:
        ValueError: if there are fewer lessons than parts.
    """
    if not 1 <= parts <= len(lessons):
        raise ValueError(f"{len(lessons)} lessons cannot be split into {parts} parts")
    if parts == 1:
        return [list(lessons)]
    best, shortest = [], inf
    for end in range(1, len(lessons) - parts + 2):
        first = sum(map(minutes_of, lessons[:end]))
        if first >= shortest:
            break
        rest = split(lessons[end:], parts - 1) if parts > 2 else [list(lessons[end:])]
        longest = max(first, *(sum(map(minutes_of, part)) for part in rest))
        if longest < shortest:
            best, shortest = [list(lessons[:end]), *rest], longest
    return best


def timetable(lessons: Sequence[Lesson]) -> str:
    """A page in Markdown.

    Args:
        lessons: the whole course in order, cores and what goes further.

    Raises:
        ValueError: if a lesson has no study time, or one of the day's is missing.
    """
    cores = [lesson for lesson in lessons if not lesson.further]
    return "\n".join(
        ["# Timetables", "", _ABOUT, _day(cores), _week(lessons), _weeks(cores, lessons)]
    )


_ABOUT = (
    "Written by `make classroom` from what the lessons tell of themselves: the minutes to study "
    "and the minutes to run on two CPU cores, together, rounded up to five.\n"
)


def _day(cores: list[Lesson]) -> str:
    chosen = [lesson for lesson in cores if lesson.path.parent.as_posix() in ONE_DAY]
    if len(chosen) != len(ONE_DAY):
        raise ValueError(f"of the day's lessons {ONE_DAY}, only {len(chosen)} are there")
    rows, now, eaten = [], BEGIN, False
    for lesson in chosen:
        if not eaten and now + minutes_of(lesson) > NOON + LUNCH:
            rows.append(f"| {_clock(now)} | lunch | |")
            now, eaten = now + LUNCH, True
        rows.append(f"| {_clock(now)} | {_name(lesson)} | {minutes_of(lesson)} |")
        now += minutes_of(lesson) + BREAK
    rows.append(f"| {_clock(now - BREAK)} | end | |")
    total = sum(map(minutes_of, chosen))
    head = "| from | lesson | minutes |\n|--:|:--|--:|\n"
    return f"## One day: {_hours(total)} of teaching\n\n{head}" + "\n".join(rows) + "\n"


def _week(lessons: Sequence[Lesson]) -> str:
    rows = [
        f"| {number} | {'; '.join(map(_name, day))} | {sum(map(minutes_of, day))} |"
        for number, day in enumerate(split(lessons, 5), 1)
    ]
    total = sum(map(minutes_of, lessons))
    head = "| day | notebooks | minutes |\n|--:|:--|--:|\n"
    return f"## One week: everything, {_hours(total)}\n\n{head}" + "\n".join(rows) + "\n"


def _weeks(cores: list[Lesson], lessons: Sequence[Lesson]) -> str:
    rows = []
    for number, week in enumerate(split(cores, 6), 1):
        folders = {lesson.path.parent for lesson in week}
        home = [x for x in lessons if x.further and x.path.parent in folders]
        rows.append(
            f"| {number} | {'; '.join(map(_name, week))} | {sum(map(minutes_of, week))} | "
            f"{'; '.join(map(_name, home)) or 'the exercises'} | {sum(map(minutes_of, home))} |"
        )
    head = "| week | in class | minutes | at home, besides the exercises | minutes |\n"
    rule = "|--:|:--|--:|:--|--:|\n"
    total = sum(map(minutes_of, cores))
    return f"## Six weeks: {_hours(total)} in class\n\n{head}{rule}" + "\n".join(rows) + "\n"


def _name(lesson: Lesson) -> str:
    return f"Part {lesson.part} {lesson.number} {lesson.name}".replace("|", "&#124;")


def _clock(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02d}"


def _hours(minutes: int) -> str:
    return f"{in_quarters(minutes / 60)} hours"
