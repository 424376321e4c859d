"""The archive: closed days of the ledger as Parquet files, which any tool reads and raw reports are fast from.

It is a copy: nothing leaves the ledger, so all reports but those that ask for it are made without it.
"""
