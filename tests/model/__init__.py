"""The protocol as an explicit-state model: every order of its steps, with a crash after each, within small bounds.

`python -m tests.model` prints what was explored and what each rule is good for; docs/explanation/protocol.md tells what it means.
"""
