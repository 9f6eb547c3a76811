"""Object detection that robots can trust inside a control loop: any backend, every stage timed."""
