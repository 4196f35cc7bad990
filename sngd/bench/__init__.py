"""Benchmarks: optimizers × problems × seeds, each run in a process of its own.

suites        what is run: the only file to edit for another problem, optimizer or suite
definition    Task, Entry, Suite; from them the jobs, and from a job the RunConfig
worker        one job in a fresh process
runner        the jobs one after the other, resumable
store         results/DEVICE/SUITE.json
machine       what it ran on
summary       medians and ranges over seeds, who wins
table         the summary in words
netns         hosts behind limited links, as network namespaces
probe         collectives by themselves, on every rank
links         which links there are, measured, and rings fitted to them
scaling       a model of several ranks, fitted and held against measurements
projection    the model with published rates of GPUs
scaling_…     both in words and pictures
figures       the summary in pictures
report        README.md of all suites and devices
command       `sngd bench`
"""
