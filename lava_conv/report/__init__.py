"""What is told about a network: the accuracy ledger, and the report, one HTML page with every picture.

`ledger` counts, `findings` runs the network and gathers plain results, `sections` makes pictures and tables of them,
`page` sets the HTML.
"""
