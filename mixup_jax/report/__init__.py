"""The report: one page, one table and the figures that compare finished runs.

Everything is computed from the files that `mixup_jax.evaluate` wrote to the run folders.  No network is run, and
neither jax nor TensorFlow is imported.

  runs           reads run folders: a `RunRecord` holds the config and the values derived from the logits
  checks         whether evaluation.json is complete, and agrees with the records
  quantities     which numbers are reported, and their places in evaluation.json
  groups         runs that differ only in their seed, their mean and spread, and which groups are comparable
  comparisons    mixup against the nearest baseline, with paired intervals; claims: the paper's claims judged by that
  figure_table   the figures, which runs each needs and where it goes; figure: the files of one figure
  page_sections  the parts of the page that contain figures
  small_tables   those beside the numbers that the paper printed, and differences of networks without a config
  filters        what a reader can switch on and off
  sentences      what figures show, in a sentence each
  page           index.html; results: results.json; tables: table.md, table.tex and table.csv
  formatting     how numbers, names and settings are written
  build          calls all of these in order; workers: drawing in several processes
  evidence       tables of Markdown documents, written from the records of runs
"""

STYLES = ("page", "paper")
"""Styles of the files beside the page: figures as on the page, or of a paper (`style.for_paper`) with paper.tex."""
