"""The report: one page, one table and the figures that compare finished runs.

Everything here is computed from what `mixup_jax.evaluate` left in the run folders: no network is run, and neither
jax nor TensorFlow is loaded.

  runs           reads run folders: a `RunRecord` holds the config and what follows from the logits, derived once
  checks         whether evaluation.json is whole; agreement: whether the records say the same
  quantities     which numbers are reported, and where they stand in evaluation.json
  groups         runs that differ in their seed alone, their mean and spread, and which groups are comparable
  comparisons    mixup against the nearest baseline, with paired intervals; claims: what that says of the paper
  figure_table   which figures there are, which runs each needs and where it goes; figure: one of them as files
  page_sections  the parts of the page that figures stand in
  paper_tables   small tables beside the numbers that the paper printed
  filters        what a reader can switch on and off
  page           index.html; results: results.json; tables: table.md, table.tex and table.csv
  formatting     how numbers, names and settings are written
  build          all of it, in order; workers: drawing in several processes
  evidence       tables of Markdown documents, written from the records of runs
"""
