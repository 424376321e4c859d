"""Metrics of several processes as those of one: pages in OpenMetrics text, added up line by line.

Counters of a process that died stay in the sum, or Prometheus would take the fall for a restart and count the rest
again. What no living process has any more is forgotten with the next death.
"""

from __future__ import annotations

from collections.abc import Iterable

END = "# EOF\n"
CONSTANT = frozenset(("zerotide_build_info",))
"""Families that say the same in every process."""
GREATEST = frozenset(("zerotide_usage_backlog_ratio", "zerotide_usage_backlog_age_seconds", "zerotide_usage_closed"))
"""Families of which the greatest number is the pod's."""
_KEPT = frozenset(("counter", "histogram"))


class Page:
    """Families in order: what is said of each, and its samples."""

    def __init__(self) -> None:
        self._about: dict[str, list[str]] = {}
        self._kinds: dict[str, str] = {}
        self._samples: dict[str, dict[str, float]] = {}

    @classmethod
    def of(cls, text: str) -> Page:
        """Read a page; lines that are none are left out."""
        page, family = cls(), ""
        for line in text.splitlines():
            if line.startswith("# "):
                words = line.split(" ", 3)
                if len(words) == 4:
                    family = words[2]
                    page._about.setdefault(family, []).append(line)
                    page._samples.setdefault(family, {})
                    if words[1] == "TYPE":
                        page._kinds[family] = words[3]
                continue
            key, _, number = line.rpartition(" ")
            try:
                page._samples.setdefault(family, {})[key] = float(number)
            except ValueError:
                continue
        return page

    def add(self, other: Page) -> None:
        """Add another page's samples."""
        for family, samples in other._samples.items():
            self._about.setdefault(family, other._about.get(family, []))
            self._kinds.setdefault(family, other._kinds.get(family, ""))
            mine = self._samples.setdefault(family, {})
            for key, number in samples.items():
                if family in GREATEST:
                    mine[key] = max(mine.get(key, number), number)
                else:
                    mine[key] = number if family in CONSTANT else mine.get(key, 0.0) + number

    def counts(self) -> Page:
        """Return what stays of a process that died: what it counted."""
        kept = Page()
        for family, samples in self._samples.items():
            if self._kinds.get(family) in _KEPT:
                kept._about[family], kept._kinds[family] = self._about[family], self._kinds[family]
                kept._samples[family] = dict(samples)
        return kept

    def only(self, living: Iterable[Page]) -> Page:
        """Return this page without samples that no living process has."""
        known: dict[str, set[str]] = {}
        for page in living:
            for family, samples in page._samples.items():
                known.setdefault(family, set()).update(samples)
        kept = self.counts()
        for family, samples in kept._samples.items():
            kept._samples[family] = {key: samples[key] for key in samples if key in known.get(family, ())}
        return kept

    def lines(self) -> list[str]:
        """Return the lines of the page, without its end."""
        lines: list[str] = []
        for family, samples in self._samples.items():
            lines += self._about.get(family, [])
            lines += [f"{key} {number!r}" for key, number in samples.items()]
        return lines


class Sum:
    """The pages of all processes, and what those that died had counted."""

    def __init__(self) -> None:
        self._pages: dict[int, Page] = {}
        self._past = Page()

    def take(self, number: int, text: str) -> None:
        """Take in the newest page of a process."""
        self._pages[number] = Page.of(text)

    def died(self, number: int) -> None:
        """Keep what a process counted, as far as its last page told."""
        last = self._pages.pop(number, None)
        if last is not None:
            past = self._past.only([*self._pages.values(), last])
            past.add(last.counts())
            self._past = past

    def render(self, more: str = "") -> bytes:
        """Return the page of all, with another one's families behind."""
        whole = Page()
        for page in self._pages.values():
            whole.add(page)
        whole.add(self._past)
        whole.add(Page.of(more))
        return ("\n".join(whole.lines()) + "\n" + END).encode()
