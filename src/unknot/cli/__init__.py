"""The command `unknot`: every verb is a few lines over the library.

`app` puts the verbs together and says what went wrong in one line; `points`, `measure`, `prune`,
`study`, `demo` and `doctor` hold the verbs. `options` are the flags that several of them share;
`samples` reads the data and `sources` finds the models that flags name.
"""
