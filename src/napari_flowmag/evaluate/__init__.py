"""Which magnifier is better: data with known answers, methods, figures and a report of them.

`case` says what a task is, `sets` makes tasks, `methods` does them, `figures` judges what came
out, `run` does that for many and keeps what is done, `report` writes it down.
"""
