//! A filesystem in memory for tests: a live and a durable image, faults from a seed.
