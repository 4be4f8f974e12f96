"""The picture of a profile: which samples stand together after each layer, and what training changed.

`layout` says where every sample stands, for whoever draws it (`charts` by matplotlib, the report by
Plotly), and `sentences` say in words what the numbers and their intervals allow to say.
"""
