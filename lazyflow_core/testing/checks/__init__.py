"""The checks themselves, by what they try: setup, pull, push, concurrency, lifetime."""
