"""Who used what: `tap` reads tokens from answers as they pass, `journal` keeps records on disk before a replica
sees a request, `shipper` brings them to the exporter, at least once.
"""
