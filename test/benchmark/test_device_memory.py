"""The most GPU memory of a process, from what a driver may tell."""

from __future__ import annotations

from trt_perception.benchmark.device_memory import PeakWatch

MIB = 2**20


class Driver:
    """Holds what a driver would tell; knows: whether by process."""

    def __init__(self, *, knows: bool) -> None:
        self.own = self.others = 0
        self._knows = knows

    def in_use(self) -> int:
        return self.own + self.others

    def of_process(self, pid: int) -> int | None:
        return self.own if self._knows and self.own else None


def test_a_peak_inside_a_command_is_seen_with_and_without_the_processs_number() -> None:
    for knows in (True, False):
        driver = Driver(knows=knows)
        driver.others = 700 * MIB
        watch = PeakWatch(driver, 1)
        watch.begin()
        for own in (100, 900, 300):
            driver.own = own * MIB
            watch.sample()
        assert watch.peak_mib == 900


def test_what_others_take_between_its_commands_is_not_its_own() -> None:
    for knows in (True, False):
        driver = Driver(knows=knows)
        watch = PeakWatch(driver, 1)
        watch.begin()
        driver.own = 300 * MIB
        watch.sample()
        driver.others = 5000 * MIB
        watch.begin()
        watch.sample()
        driver.own = 350 * MIB
        watch.sample()
        assert watch.peak_mib == 350


def test_a_process_that_holds_none_has_no_peak() -> None:
    watch = PeakWatch(Driver(knows=False), 1)
    watch.begin()
    watch.sample()
    assert watch.peak_mib is None
