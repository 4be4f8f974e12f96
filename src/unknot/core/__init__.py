"""What everything stands on, without torch: `InputError`, whole files, memory, progress, processes.

Bad input becomes one line here (`errors`), a file is written whole or not at all (`files`), tables in
text are read (`tables`, `columns`), what a computation may take is decided (`memory`), and work goes to
processes or a cluster (`workforce`).
"""
