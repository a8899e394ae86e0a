"""Does mixup help once a temperature is fitted?  What is done with the runs of configs/grids/settled.py.

`python -m studies.settled.records RUNS` takes what the page needs from finished runs into docs/results/settled, and
`python -m studies.settled.page` writes the page and its figures from there.  The protocol is beside the page.
"""
