"""The report: one page, one table and the figures that compare finished runs.

Everything here is computed from what `mixup_jax.evaluate` left in the run folders: no network is
run, and neither jax nor TensorFlow is loaded.

  documents   reads JSON; checks: whether evaluation.json is whole; agreement: whether the records say the same
  runs        reads run folders
  quantities  which numbers are reported, and where they stand in evaluation.json
  groups      runs that differ in their seed alone, and their mean and spread
  differences paired differences between two groups, with bootstrap intervals
  verdict     what the differences say about the paper's claims
  figures     the drawings, which a notebook can use as well
  choices     what a reader can switch on and off
  picture     a drawing as files and as a part of the page; pictures, overview: which there are
  paper       the paper's figures and tables: of training (courses), of test and foreign sets (held_out), and small
              tables (sheet), with the numbers that the paper printed (published)
  page        index.html, with blocks for its tables of numbers
  results     results.json
  tables      table.md, table.tex and table.csv
  evidence    tables of Markdown documents, written from the records of runs
"""
