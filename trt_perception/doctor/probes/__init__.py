"""One look at one thing each: `look(argument)` runs in a child process, `judge(facts, driver)` in the parent.

`look` imports what it looks at and returns plain values; `judge` says what they mean. `driver` is what the driver
probe saw, {} where it saw nothing.
"""
